"""What a training tells besides the weights: figures of the data, speed, held-out rows before and after, sample
answers. Used by `edgeft.training.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.training.watch import losses

HELD_OUT, SAMPLES = "heldout.jsonl", "samples.jsonl"
_SAMPLE_TOKENS = 96
_FIGURES = ("accuracy", "reward")


def of_the_data(stats: Mapping[str, Any]) -> dict[str, Any]:
    """What training.json keeps of the dataset: its size, and what everything that opens the adapter needs of it."""
    figures = stats["splits"]["train"]
    kept = ("rows", "tokens", "trained_tokens", "tokens_by_role", "tokenized_in_pieces")
    return {
        "data": {key: figures[key] for key in kept if key in figures},
        "stop_ids": stats["stop_ids"],
        "end_of_turn_ids": stats["end_of_turn_ids"],
        "chat_template": stats["chat_template"],
    }


def speed(trained: Any) -> dict[str, Any]:
    seconds = trained.seconds
    return {
        "training_seconds": round(seconds, 3),
        "tokens_per_second": round(trained.tokens / seconds, 1) if seconds else None,
        "trained_tokens_per_second": round(trained.learnt / seconds, 1) if seconds else None,
        "resumed_from_step": trained.resumed,
    }


def compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Row id -> {"before", "after"}: what the objective found of each held-out row."""
    return {name: {"before": before[name], "after": after[name]} for name in sorted(after)}


def write_more(folder: Path, history: list[dict[str, Any]], judged: Mapping[str, Any]) -> None:
    """heldout.jsonl and samples.jsonl, when there is something for them."""
    if judged:
        files.write_jsonl(folder / HELD_OUT, ({"id": name, **found} for name, found in judged.items()))
    samples = [{"step": entry["step"], **one} for entry in history if "samples" in entry for one in entry["samples"]]
    if samples:
        files.write_jsonl(folder / SAMPLES, samples)


def sampler(job: Any, model: Any, device: str) -> Callable[[], list[dict[str, str]]]:
    """A function that lets the model answer the first validation conversations, likeliest tokens only."""
    import torch
    from transformers import GenerationConfig

    from edgeft.models.tokenizer import load_tokenizer
    from edgeft.template_date import strftime_now

    stats = files.read_json(job.dataset / "stats.json")
    tokenizer = load_tokenizer(job.base, chat_template=stats["chat_template"])
    asked = []
    for row in files.read_jsonl(job.dataset / "validation.jsonl"):
        messages = row.get("messages") or row.get("prompt")
        last = next((i for i, turn in enumerate(messages or ()) if turn["role"] == "assistant"), None)
        if isinstance(messages, list) and messages and last != 0:
            asked.append((row["id"], messages[:last]))
        if len(asked) == job.settings.sample_answers:
            break
    prompts = [
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, strftime_now=strftime_now)
        for _, messages in asked
    ]
    config = GenerationConfig(
        max_new_tokens=_SAMPLE_TOKENS, do_sample=False, eos_token_id=list(stats["stop_ids"]), pad_token_id=0
    )

    def answers() -> list[dict[str, str]]:
        was_training = model.training
        model.eval()
        found = []
        for (name, _), prompt in zip(asked, prompts, strict=True):
            ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]], device=device)
            with torch.no_grad():
                written = model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config, use_cache=True
                )
            text = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
            found.append({"id": name, "prompt": prompt, "answer": text})
        model.train(was_training)
        return found

    return answers


def facts(
    training: Mapping[str, Any], rows: list[dict[str, Any]], history: list[dict[str, Any]], judged: Mapping[str, Any]
) -> dict[str, Any]:
    """What comparing two runs shows."""
    points = [row for row in rows if "loss" in row]
    evaluations = losses(history)
    found = {
        "base": training["base"]["ref"],
        "objective": training["objective"],
        "steps": training["steps"],
        "loss": points[-1]["loss"] if points else None,
        "eval_loss": float(f"{evaluations[-1][1]:.7g}") if evaluations else None,
        "best_eval_loss": float(f"{min(loss for _, loss in evaluations):.7g}") if evaluations else None,
        "stop_ids": training["stop_ids"],
        "quantized": bool(training["quantization"]),
        "compute_dtype": training["compute_dtype"],
    }
    for name in _FIGURES:
        for when in ("before", "after"):
            told = [float(row[when][name]) for row in judged.values() if name in row[when]]
            if told:
                found[f"{name}_{when}"] = round(sum(told) / len(told), 6)
    return found
