#!/usr/bin/env python3
"""Training speed against plain TRL + peft: python tools/bench/train.py [--size 30m] [--profile]

The same base, rows, LoRA, optimizer, learning rate, schedule and number of passes, one process run after the other, in
turns, each round with another seed:

    trl         `SFTTrainer` + peft as a short script has them: every setting its default but those named above
    trl-lean    the same without what its defaults cost on a CPU: no gradient checkpointing, no bfloat16
    edgeft      the recipe's defaults
    edgeft-bf16  with compute_dtype: bfloat16, which TRL computes in by default: what that gains depends on the CPU
    edgeft-packed  with sample_packing

The rows are those of the quickstart with one answer each, with sentences before the question so that their lengths are
spread as those of instructions are (log-normal). They are given to TRL as prompt and completion, so that it trains on
the answers only, as edgeft does (it also trains the line break behind the end of a turn; rates count the answers and
their end-of-turn tokens on all sides). Rates are of the loop without evaluations, by the clock and by the process's CPU
time, which other work on the machine changes less; memory is the peak of the whole process; losses are of all
validation rows, taken by one function for all, with the written adapter in plain peft, float32. `--size 30m`: a Llama
with random weights and sprout's tokenizer. Each run is printed when it is done; the last lines are medians and ratios.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
DATA = ROOT / "recipes" / "data" / "household"
SIDES = ("trl", "trl-lean", "edgeft", "edgeft-bf16", "edgeft-packed")
RANK, ALPHA, RATE, BATCH, LENGTH = 16, 32, 1e-3, 8, 384
VALIDATION = 100  # rows


def prepare(folder: Path, size: str, rows: int) -> None:
    """The base, rows for both sides, and edgeft's datasets, tokenized."""
    from edgeft.pipeline.stage import Inputs, Work
    from edgeft.stages import data as stage

    base = folder / "base"
    _base(base, size)
    for split in ("train", "validation"):
        paths = [DATA / "train.jsonl", DATA / "replay.jsonl"] if split == "train" else [DATA / "validation.jsonl"]
        found = [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
        found = [row["messages"] for row in found if [turn["role"] for turn in row["messages"]].count("assistant") == 1]
        random.Random(0).shuffle(found)
        found = _spread(found[: rows if split == "train" else VALIDATION])
        _lines(folder / f"{split}.jsonl", [{"messages": turns} for turns in found])
        _lines(folder / f"{split}-trl.jsonl", [{"prompt": turns[:-1], "completion": turns[-1:]} for turns in found])
    for name, packed in (("edgeft", False), ("edgeft-packed", True)):
        (folder / f"{name}-data").mkdir()
        entry = {"type": "messages"}
        params = stage.Params(
            datasets=[{"path": "train.jsonl", **entry}],  # type: ignore[list-item]
            validation=[{"path": "validation.jsonl", **entry}],  # type: ignore[list-item]
            sequence_len=LENGTH,
            sample_packing=packed,
        )
        sources = {"base": base, "datasets.0": folder / "train.jsonl", "validation.0": folder / "validation.jsonl"}
        stage.run(params, Inputs(sources=sources), Work(folder / f"{name}-data", folder))


def _spread(rows: list[Any]) -> list[Any]:
    """The rows with lengths as instructions have them, log-normal: sentences of other rows before some questions."""
    draw = random.Random(1)
    notes = (ROOT / "recipes" / "data" / "summarization" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    sentences = [
        part for line in notes for part in json.loads(line)["messages"][0]["content"].split("\n")[1].split(". ")
    ]
    spread = []
    for turns in rows:
        before = draw.sample(sentences, min(20, int(draw.lognormvariate(0.7, 0.9))))
        *first, question, answer = turns
        text = " ".join([*(f"{sentence.rstrip('.')}." for sentence in before), question["content"]])
        spread.append([*first, {**question, "content": text}, answer])
    return spread


def _lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _base(folder: Path, size: str) -> None:
    import shutil

    from edgeft.models.base import resolve

    sprout = resolve("builtin:sprout")
    shutil.copytree(sprout, folder, ignore=shutil.ignore_patterns("model.safetensors") if size == "30m" else None)
    if size != "30m":
        return
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(sprout)
    wider = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 10, "num_attention_heads": 8}
    for name, value in wider.items():
        setattr(config, name, value)
    config.layer_types = None
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def run_trl(folder: Path, out: Path, epochs: float, seed: int, *, lean: bool) -> dict[str, float]:
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import set_seed
    from trl import SFTConfig, SFTTrainer

    trained = load_dataset("json", data_files=str(folder / "train-trl.jsonl"), split="train")
    more: dict[str, Any] = {"gradient_checkpointing": False, "bf16": False} if lean else {}
    arguments = SFTConfig(
        output_dir=str(out / "trl"), num_train_epochs=epochs, learning_rate=RATE, per_device_train_batch_size=BATCH,
        max_length=LENGTH, use_cpu=True, report_to="none", seed=seed, **more,
    )  # fmt: skip
    set_seed(seed)
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(str(folder / "base"), args=arguments, train_dataset=trained, peft_config=lora)
    with Timed() as timed:
        trainer.train()
    trainer.model.save_pretrained(out / "adapter")
    return {**timed.found, "steps": trainer.state.global_step}


def run_edgeft(
    folder: Path, out: Path, epochs: float, seed: int, *, data: str, dtype: str = "auto"
) -> dict[str, float]:
    import edgeft.training.run as run
    from edgeft.training.arguments import Settings
    from edgeft.training.opened import Job

    timed = Timed()
    walk, seen = run._walk, []

    def walked(trainer: Any, *rest: Any) -> int:
        trainer.evaluate = lambda *_, **__: {}  # the peer takes no validation loss on its way
        seen.append(trainer)
        with timed:
            return walk(trainer, *rest)

    run._walk = walked
    settings = Settings(
        adapter="lora", lora_r=RANK, lora_alpha=ALPHA, learning_rate=RATE, num_epochs=epochs, seed=seed,
        micro_batch_size=_sequences(folder, data), lr_scheduler="linear", warmup_ratio=0.0,
        compute_dtype=dtype,
    )  # fmt: skip
    adapter, scratch = out / "adapter", out / "scratch"
    adapter.mkdir()
    scratch.mkdir()
    run.train(Job(folder / "base", "base", folder / data, adapter, scratch, settings))
    run._walk = walk
    return {**timed.found, "steps": seen[0].state.global_step}


def _sequences(folder: Path, data: str) -> int:
    """Rows a step; of packed rows so many sequences as have about as many."""
    if "packed" not in data:
        return BATCH
    stats = json.loads((folder / data / "stats.json").read_text())
    rows = stats["splits"]["train"]["rows"] / stats["packing"]["sequences"]
    return max(1, round(BATCH / rows))


class Timed:
    """Seconds and CPU seconds of what runs inside."""

    def __enter__(self) -> Timed:
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        seconds, cpu = time.perf_counter() - self._start[0], time.process_time() - self._start[1]
        self.found = {"seconds": seconds, "cpu_seconds": cpu}


def side(name: str, folder: Path, out: Path, epochs: float, seed: int) -> dict[str, float]:
    """Train in this process, then judge what was written."""
    import resource

    start = time.perf_counter()
    if name.startswith("trl"):
        found = run_trl(folder, out, epochs, seed, lean=name == "trl-lean")
    else:
        dtype = "bfloat16" if name == "edgeft-bf16" else "auto"
        data = "edgeft-packed-data" if name == "edgeft-packed" else "edgeft-data"
        found = run_edgeft(folder, out, epochs, seed, data=data, dtype=dtype)
    whole = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = json.loads((folder / "edgeft-data" / "stats.json").read_text())["splits"]["train"]
    tokens = epochs * figures["trained_tokens"]
    return {"tokens": tokens, **found, "whole": whole, "peak": peak, "loss": validation_loss(folder, out / "adapter")}


def validation_loss(folder: Path, adapter: Path) -> float:
    """Nats per answer token of the validation rows, one row at a time, by transformers and peft alone."""
    import pyarrow.parquet as pq
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from edgeft.training.forms import read

    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    path = folder / "edgeft-data" / "validation.parquet"
    rows = read("language", path, 0)
    total, count = 0.0, 0
    for index in range(pq.read_metadata(path).num_rows):
        batch = rows.batch([(index,)])
        targets = batch["targets"]
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"]).logits
        loss = torch.nn.functional.cross_entropy(logits[0].float(), targets[0], ignore_index=-100, reduction="sum")
        total, count = total + float(loss), count + int((targets != -100).sum())
    return total / count


KINDS = {  # what an operation belongs to, by its name
    "matrix products": ("::mm", "::addmm", "::bmm", "::linear", "::matmul"),
    "attention": ("scaled_dot_product",),
    "the optimizer": ("adamw", "Optimizer", "foreach"),
}


def profile(folder: Path, out: Path, epochs: float) -> None:
    """Where edgeft's loop spends its time: torch's operations by the time of their own, and what is outside of them."""
    import torch
    from torch.profiler import ProfilerActivity

    import edgeft.training.run as run

    walk, found = run._walk, []

    def walked(trainer: Any, *rest: Any) -> int:
        with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as taken:
            first = walk(trainer, *rest)
        found.append(taken)
        return first

    run._walk = walked
    timed = run_edgeft(folder, out, epochs, 0, data="edgeft-data")
    times: dict[str, float] = {}
    for event in found[0].key_averages():
        kind = next((kind for kind, names in KINDS.items() if any(name in event.key for name in names)), None)
        kind = kind or ("other operations" if "::" in event.key else "autograd")
        times[kind] = times.get(kind, 0.0) + event.self_cpu_time_total / 1e6
    times["Python, and waiting for a core"] = max(0.0, timed["seconds"] - sum(times.values()))
    for name, seconds in sorted(times.items(), key=lambda pair: -pair[1]):
        print(f"{name:32} {100 * seconds / timed['seconds']:5.1f} %")


def compare(folder: Path, sides: list[str], rounds: int, epochs: float) -> None:
    """Each side in processes of their own, in turns; each run as it is done, then medians and ratios."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    stats = json.loads((folder / "edgeft-data" / "stats.json").read_text())["splits"]
    lengths = stats["train"]["length"]
    spread = ", ".join(f"{name} {lengths[name]}" for name in ("min", "p50", "p90", "max"))
    print(f"{stats['train']['rows']} rows ({spread} tokens), {epochs:g} passes, {stats['validation']['rows']} held out")
    columns = f"{'steps':>6} {'tokens/s':>9} {'a CPU s':>9} {'whole':>7} {'peak MB':>8} {'loss':>7}"
    print(f"{'':15} {'seed':>6} {columns}", flush=True)
    for seed in range(rounds):
        for name in sides:
            with tempfile.TemporaryDirectory(dir=folder) as out:
                command = [sys.executable, __file__, "--side", name, "--folder", str(folder), "--out", out]
                more = ["--epochs", str(epochs), "--seed", str(seed)]
                done = subprocess.run([*command, *more], capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr[-3000:])
                runs[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(_line(name, str(seed), runs[name][-1]), flush=True)
    for name, found in runs.items():
        print(_line(name, "median", {key: statistics.median(one[key] for one in found) for key in found[0]}))
    for name in (name for name in sides if name.startswith("edgeft")):
        for peer in (peer for peer in sides if peer.startswith("trl")):
            pairs = list(zip(runs[name], runs[peer], strict=True))
            clock, cpu = (statistics.median(b[key] / a[key] for a, b in pairs) for key in ("seconds", "cpu_seconds"))
            worse = statistics.mean(a["loss"] - b["loss"] for a, b in pairs)
            print(f"{name} against {peer}: {clock:.2f}x by the clock, {cpu:.2f}x by CPU time, mean loss {worse:+.4f}")


def _line(name: str, seed: str, one: Mapping[str, float]) -> str:
    rates = one["tokens"] / one["seconds"], one["tokens"] / one["cpu_seconds"]
    return (
        f"{name:15} {seed:>6} {one['steps']:6.0f} {rates[0]:9.0f} {rates[1]:9.0f} {one['whole']:7.1f} "
        f"{one['peak'] / 1e6:8.0f} {one['loss']:7.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["sprout", "30m"], default="sprout")
    parser.add_argument("--rows", type=int, help="about so many training rows; default 640, of 30m 160")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side, each with another seed")
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--profile", action="store_true", help="profile edgeft instead")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.side:
        print(json.dumps(side(told.side, told.folder, told.out, told.epochs, told.seed)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prepare(folder, told.size, told.rows or (160 if told.size == "30m" else 640))
        if told.profile:
            out = folder / "profile"
            out.mkdir()
            profile(folder, out, told.epochs)
        else:
            compare(folder, told.sides, told.rounds, told.epochs)


if __name__ == "__main__":
    main()
