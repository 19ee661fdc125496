"""From nothing to the folder that ships: the steps of tools/make_base.py, in order."""

import itertools
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from tools.base import corpus, evaluation, folder, training
from tools.base import tokenizer as chatml
from tools.base.card import write_card
from tools.base.folder import sha256
from tools.base.rows import Exchange

TOKENIZER_ROWS = 20_000
ROWS_PER_STEP = 40  # more than any step uses; what is checked for leaks
FAMILIES = ("reading", "arithmetic", "ordering", "rewriting", "knowledge", "extraction")


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of the result."""

    size: training.Size = field(default_factory=training.Size)
    plan: training.Plan = field(default_factory=training.Plan)
    held_rows: int = 80


@dataclass(frozen=True)
class Made:
    """What came out."""

    digest: str
    tokens: int
    scores: dict[str, float]


def settings(quick: bool = False, steps: int | None = None) -> Settings:
    """The shipped settings, or a tiny version of them that takes seconds."""
    chosen = Settings()
    if quick:
        plan = replace(chosen.plan, steps=3, batch=2, block=256, warmup=1, decay_steps=2)
        chosen = Settings(training.Size(layers=1, intermediate=256), plan, held_rows=4)
    return replace(chosen, plan=replace(chosen.plan, steps=steps)) if steps else chosen


def held_out(count: int) -> dict[str, list[Exchange]]:
    """The rows of the general suites."""
    return {family: corpus.held_out(family, count) for family in FAMILIES}


def write_suites(held: dict[str, list[Exchange]], out: Path) -> None:
    """One JSONL file a family, in OpenAI messages form."""
    out.mkdir(parents=True, exist_ok=True)
    for family, exchanges in held.items():
        lines = []
        for exchange in exchanges:
            turns = [("user", exchange.ask), ("assistant", exchange.answer)]
            lines.append(json.dumps({"messages": [{"role": r, "content": c} for r, c in turns]}, ensure_ascii=False))
        (out / f"{family}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def check_leaks(held: dict[str, list[Exchange]], steps: int) -> int:
    """Stop if any held-out problem is in the corpus; returns the number of rows looked at."""
    count = max(TOKENIZER_ROWS, steps * ROWS_PER_STEP)
    if found := corpus.leaks(corpus.rows(count), itertools.chain.from_iterable(held.values())):
        raise ValueError(f"{len(found)} leaks between the corpus and the held-out rows, the first: {found[0]}")
    return count


def make(out: Path, work: Path, chosen: Settings, resume: bool = False, suites: Path | None = None) -> Made:
    """Write the model to `out`; checkpoints go to `work`."""
    held = held_out(chosen.held_rows)
    checked = check_leaks(held, chosen.plan.steps)
    print(f"no held-out problem, prompt or name in {checked:,} rows of the corpus", flush=True)
    if suites:
        write_suites(held, suites)
    tokenizer = chatml.train(corpus.plain(row) for row in corpus.rows(TOKENIZER_ROWS))
    model = training.build_model(chosen.size, tokenizer, chosen.plan.seed)
    data = training.Blocks(corpus.rows, tokenizer, chosen.plan.block)
    training.train(model, data, chosen.plan, work, resume=resume)
    folder.write(model, tokenizer, out)
    tokens = chosen.plan.steps * chosen.plan.batch * chosen.plan.block
    scores = judge(out, held)
    write_card(out, chosen, model, scores)
    return Made(sha256(out / "model.safetensors"), tokens, scores)


def judge(out: Path, held: dict[str, list[Exchange]], misses: int = 2) -> dict[str, float]:
    """Exact match of the folder as it ships (bf16 weights), per family and per kind of problem."""
    model = AutoModelForCausalLM.from_pretrained(out, dtype="float32")
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    scores = evaluation.score(model, tokenizer, held, misses)
    for name, value in sorted(scores.items()):
        print(f"{name:28s} {value:6.1f}")
    return scores
