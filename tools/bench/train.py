#!/usr/bin/env python3
"""Training speed against plain TRL + peft: python tools/bench/train.py [--size 30m] [--profile]

The same base, rows, LoRA, optimizer, learning rate and number of passes, one process run after the other, in turns:

    trl         `SFTTrainer` + peft as a short script has them: every setting its default but those named above
    trl-lean    the same without what its defaults cost on a CPU: no gradient checkpointing, no bfloat16
    edgeft      the recipe's defaults
    edgeft-packed  with sample_packing

The rows are those of the quickstart with one answer each, given to TRL as prompt and completion, so that it trains on
the answers only, as edgeft does. Rates are trained (answer) tokens a second of the loop without evaluations, by the
clock and by the process's CPU time; memory is the peak of the whole process; the losses are taken by one function for
all, with the written adapter in plain peft, float32. `--size 30m`: a Llama with random weights and sprout's tokenizer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
DATA = ROOT / "recipes" / "data" / "household"
SIDES = ("trl", "trl-lean", "edgeft", "edgeft-packed")
RANK, ALPHA, RATE, BATCH, LENGTH = 16, 32, 1e-3, 8, 256


def prepare(folder: Path, size: str, rows: int | None) -> None:
    """The base, rows for both sides, and edgeft's datasets, tokenized."""
    from edgeft.pipeline.stage import Inputs, Work
    from edgeft.stages import data as stage

    base = folder / "base"
    _base(base, size)
    for split in ("train", "validation"):
        paths = [DATA / "train.jsonl", DATA / "replay.jsonl"] if split == "train" else [DATA / "validation.jsonl"]
        found = [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
        found = [row["messages"] for row in found if [turn["role"] for turn in row["messages"]].count("assistant") == 1]
        found = found[:: max(1, len(found) // rows)] if rows and split == "train" else found
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


def run_trl(folder: Path, out: Path, epochs: float, *, lean: bool) -> dict[str, float]:
    from datasets import load_dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    trained = load_dataset("json", data_files=str(folder / "train-trl.jsonl"), split="train")
    more: dict[str, Any] = {"gradient_checkpointing": False, "bf16": False} if lean else {}
    arguments = SFTConfig(
        output_dir=str(out / "trl"), num_train_epochs=epochs, learning_rate=RATE, per_device_train_batch_size=BATCH,
        max_length=LENGTH, use_cpu=True, report_to="none", **more,
    )  # fmt: skip
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(str(folder / "base"), args=arguments, train_dataset=trained, peft_config=lora)
    tokens = epochs * sum(label != -100 for row in trainer.train_dataset for label in row["labels"])
    with Timed() as timed:
        trainer.train()
    trainer.model.save_pretrained(out / "adapter")
    return {"tokens": tokens, **timed.found, "steps": trainer.state.global_step}


def run_edgeft(folder: Path, out: Path, epochs: float, *, data: str) -> dict[str, float]:
    import edgeft.training.run as run
    from edgeft.training.arguments import Settings

    timed = Timed()
    walk, seen = run._walk, []

    def walked(trainer: Any, *rest: Any) -> int:
        trainer.evaluate = lambda *_, **__: {}  # the peer takes no validation loss on its way
        seen.append(trainer)
        with timed:
            return walk(trainer, *rest)

    run._walk = walked
    settings = Settings(
        adapter="lora", lora_r=RANK, lora_alpha=ALPHA, learning_rate=RATE, num_epochs=epochs,
        micro_batch_size=2 if "packed" in data else BATCH,  # two full sequences have about as many tokens as eight rows
        lr_scheduler="linear", warmup_ratio=0.0,
    )  # fmt: skip
    adapter, scratch = out / "adapter", out / "scratch"
    adapter.mkdir()
    scratch.mkdir()
    job = run.Job(folder / "base", "base", folder / data, adapter, scratch, settings)
    run.train(job)
    figures = json.loads((folder / data / "stats.json").read_text())["splits"]["train"]
    return {"tokens": epochs * figures["trained_tokens"], **timed.found, "steps": seen[0].state.global_step}


class Timed:
    """Seconds and CPU seconds of what runs inside."""

    def __enter__(self) -> Timed:
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        seconds, cpu = time.perf_counter() - self._start[0], time.process_time() - self._start[1]
        self.found = {"seconds": seconds, "cpu_seconds": cpu}


def side(name: str, folder: Path, out: Path, epochs: float) -> dict[str, float]:
    """Train in this process."""
    import resource

    start = time.perf_counter()
    if name.startswith("trl"):
        found = run_trl(folder, out, epochs, lean=name == "trl-lean")
    else:
        found = run_edgeft(folder, out, epochs, data=f"{name}-data")
    whole = time.perf_counter() - start
    return found | {"whole": whole, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


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


def profile(folder: Path, out: Path, epochs: float, top: int = 8) -> None:
    """Where edgeft's loop spends its CPU time: torch's operations by the time of their own, and Python's rest."""
    import torch
    from torch.profiler import ProfilerActivity

    import edgeft.training.run as run

    walk = run._walk
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as found:
        pass

    def walked(trainer: Any, *rest: Any) -> int:
        nonlocal found
        with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as found:
            return walk(trainer, *rest)

    run._walk = walked
    timed = run_edgeft(folder, out, epochs, data="edgeft-data")
    events = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    whole = timed["seconds"] * 1e6
    known = sum(event.self_cpu_time_total for event in events)
    for event in events[:top]:
        print(f"{event.key[:58]:60} {100 * event.self_cpu_time_total / whole:5.1f} %  {event.count:>8} calls")
    print(f"{'outside of torch (Python)':60} {100 * max(0.0, whole - known) / whole:5.1f} %")


def compare(folder: Path, sides: list[str], rounds: int, epochs: float) -> None:
    """Each side in processes of their own, in turns; the medians as a table."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name in sides:
            with tempfile.TemporaryDirectory(dir=folder) as out:
                command = [sys.executable, __file__, "--side", name, "--folder", str(folder), "--out", out]
                done = subprocess.run([*command, "--epochs", str(epochs)], capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr[-3000:])
                one = json.loads(done.stdout.splitlines()[-1])
                runs[name].append(one | {"loss": validation_loss(folder, Path(out) / "adapter")})
    median = {name: {key: statistics.median(one[key] for one in found) for key in found[0]}
              for name, found in runs.items()}  # fmt: skip
    print(f"{'':15} {'steps':>6} {'tokens':>8} {'tokens/s':>9} {'a CPU s':>10} {'whole':>8} {'peak MB':>8} {'loss':>7}")
    for name, one in median.items():
        rates = one["tokens"] / one["seconds"], one["tokens"] / one["cpu_seconds"]
        print(
            f"{name:15} {one['steps']:6.0f} {one['tokens']:8.0f} {rates[0]:9.0f} {rates[1]:10.0f} {one['whole']:8.1f} "
            f"{one['peak'] / 1e6:8.0f} {one['loss']:7.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["sprout", "30m"], default="sprout")
    parser.add_argument("--rows", type=int, help="about so many training rows (default: all)")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--profile", action="store_true", help="profile edgeft instead")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.side:
        print(json.dumps(side(told.side, told.folder, told.out, told.epochs)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prepare(folder, told.size, told.rows)
        if told.profile:
            out = folder / "profile"
            out.mkdir()
            profile(folder, out, told.epochs)
        else:
            compare(folder, told.sides, told.rounds, told.epochs)


if __name__ == "__main__":
    main()
