"""Rows per second of evaluation: our runtime against lm-eval's own `hf` model, the same requests, the same batch limit.

    python tools/bench/eval.py [--model builtin:sprout | FOLDER] [--rows 40] [--batch 8] [--rounds 3] [--kinds …]

Kinds: `choices` (multiple choice, four answers each), `shots` (the same behind five examples), `texts` (log-likelihood
of whole texts), `answers` (written, 32 tokens at most). Both run in one process, one after the other in each round,
with the same number of threads; the best round counts, in CPU seconds. `batch` is rows for lm-eval; ours reads at most
as many tokens together as that many of the longest row have. A model of the real shape: synthetic.py FOLDER (give
`--rows 6 --rounds 1`: the four kinds then take a few minutes).

Of what is read (not written), the last columns say why: the tokens that went through the layers and the positions
whose logits were computed, theirs / ours; and what a reader could reach that wastes nothing else, the model's own
forward pass over every token once (texts have nothing in common: there it is the limit, and with it the ratio).
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

GENERAL = Path(__file__).parents[2] / "edgeft" / "evals" / "general"
KINDS = ("choices", "shots", "texts", "answers")


def rows(count: int) -> list[tuple[str, str]]:
    """(question, answer) of the packaged general skills, spread over their families."""
    found = []
    for path in sorted(GENERAL.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            turns = json.loads(line)["messages"]
            found.append((turns[-2]["content"], turns[-1]["content"]))
    return [found[i * len(found) // count] for i in range(count)]


def requests(kind: str, count: int) -> list[Any]:
    """What the harness would ask of its model, as it would."""
    asked = rows(count + 5)
    shots = "".join(f"Question: {q}\nAnswer: {a}\n\n" for q, a in asked[count:])
    arguments: list[tuple[Any, ...]] = []
    for number, (question, answer) in enumerate(asked[:count]):
        if kind == "texts":
            arguments.append((f"{question}\n{answer}",))
        elif kind == "answers":
            arguments.append(
                (f"Question: {question}\nAnswer:", {"until": ["\n"], "max_gen_toks": 32, "do_sample": False})
            )
        else:
            context = f"{shots if kind == 'shots' else ''}Question: {question}\nAnswer:"
            others = [asked[(number + step) % count][1] for step in (1, 2, 3)]
            arguments += [(context, f" {choice}") for choice in (answer, *others)]
    return [SimpleNamespace(args=one) for one in arguments]


def measure(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


class Passes:
    """Counts what goes through a model: tokens through its layers, positions through its output layer."""

    def __init__(self, model: Any) -> None:
        self.tokens = self.positions = 0
        model.get_decoder().layers[0].register_forward_hook(self._layer)
        model.get_output_embeddings().register_forward_hook(self._head)

    def _layer(self, _module: Any, arguments: tuple[Any, ...], _output: Any) -> None:
        self.tokens += arguments[0].shape[0] * arguments[0].shape[1]

    def _head(self, _module: Any, _arguments: tuple[Any, ...], output: Any) -> None:
        self.positions += output.shape[0] * output.shape[1]

    def taken(self) -> tuple[int, int]:
        found = self.tokens, self.positions
        self.tokens = self.positions = 0
        return found


def bare(model: Any, lengths: Sequence[int], rounds: int) -> float:
    """CPU seconds of the model's own forward pass over rows of those lengths, like lengths together, without padding
    worth speaking of: per token as 8 rows of the mean length take."""
    import torch

    width = max(2, round(sum(lengths) / len(lengths)))
    ids = torch.randint(0, model.config.vocab_size, (8, width))
    with torch.inference_mode():
        best = min(measure(partial(model, input_ids=ids, use_cache=False))[0] for _ in range(max(2, 2 * rounds)))
    return best / ids.numel() * sum(lengths)


def call(model: Any, kind: str, asked: Sequence[Any]) -> Any:
    if kind == "texts":
        return model.loglikelihood_rolling(list(asked), disable_tqdm=True)
    if kind == "answers":
        return model.generate_until(list(asked), disable_tqdm=True)
    return model.loglikelihood(list(asked), disable_tqdm=True)


def difference(kind: str, first: Sequence[Any], second: Sequence[Any]) -> str:
    """How far apart the answers of both are."""
    if kind == "answers":
        return f"{sum(a == b for a, b in zip(first, second, strict=True))}/{len(first)} equal"
    values = [[one[0] if isinstance(one, tuple) else one for one in side] for side in (first, second)]
    return f"{max(abs(a - b) for a, b in zip(*values, strict=True)):.1e} nats"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin:sprout")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    chosen = parser.parse_args()

    import torch
    from lm_eval.models.huggingface import HFLM

    from edgeft.evals.harness_model import as_model
    from edgeft.models.base import resolve
    from edgeft.runtimes import open_hf

    logging.disable(logging.WARNING)
    torch.set_num_threads(chosen.threads)
    folder = resolve(chosen.model)
    runtime: Any = open_hf(folder, threads=chosen.threads)
    theirs = HFLM(
        pretrained=runtime._model,
        tokenizer=runtime._tokenizer,
        batch_size=chosen.batch,
        max_length=runtime.context_length,
    )  # the very same weights in memory
    ours = as_model(runtime, lambda _: None)
    passes = Passes(runtime._model)
    print(f"{chosen.model}: {chosen.rows} rows, batch {chosen.batch}, {chosen.threads} thread(s)")
    print(f"{'kind':8} {'lm-eval hf':>14} {'edgeft':>14} {'ratio':>7}  {'difference':12} layers, logits; bare pass")
    for kind in chosen.kinds:
        asked = requests(kind, chosen.rows)
        lengths = [len(runtime.encode("".join(part for part in one.args if isinstance(part, str)))) for one in asked]
        runtime.batch_tokens = chosen.batch * (max(lengths) + (32 if kind == "answers" else 0))
        best: dict[str, float] = {}
        said: dict[str, Any] = {}
        through: dict[str, tuple[int, int]] = {}
        for _ in range(chosen.rounds):
            for name, model in (("theirs", theirs), ("ours", ours)):
                seconds, said[name] = measure(partial(call, model, kind, asked))
                best[name] = min(seconds, best.get(name, seconds))
                through[name] = passes.taken()
        speeds = [chosen.rows / best[name] for name in ("theirs", "ours")]
        told = difference(kind, said["theirs"], said["ours"])
        why = ""
        if kind != "answers":
            (read, scored), (less, fewer) = through["theirs"], through["ours"]
            limit = chosen.rows / bare(runtime._model, lengths, chosen.rounds)
            passes.taken()
            why = f"{read}/{less}, {scored}/{fewer}; {limit:.2f} rows/s, {limit / speeds[0]:.2f}x"
        print(
            f"{kind:8} {speeds[0]:7.2f} rows/s {speeds[1]:7.2f} rows/s {speeds[1] / speeds[0]:6.2f}x  {told:12} {why}",
            flush=True,
        )


if __name__ == "__main__":
    main()
