"""Dataset artifacts of every form, small, made for `tiny_llama`: what the data stage writes for objectives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.training.made import ROOMS

STATS = {
    "sequence_len": 128,
    "sample_packing": False,
    "chat_template": None,
    "end_of_turn_ids": [319],
    "stop_ids": [319],
}


def tokenizer_of(base: Path) -> Any:
    from edgeft.models.tokenizer import load_tokenizer

    return load_tokenizer(base)


def _prompt(tokenizer: Any, text: str) -> list[int]:
    asked = [{"role": "user", "content": text}]
    return list(tokenizer.apply_chat_template(asked, add_generation_prompt=True)["input_ids"])


def _answer(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text + "<|im_end|>", add_special_tokens=False)["input_ids"])


def made(form: str, base: Path, count: int) -> list[dict[str, Any]]:
    """Rows of a form: light switches, some of them wrong."""
    tokenizer = tokenizer_of(base)
    rows: list[dict[str, Any]] = []
    for i in range(count):
        room, other = ROOMS[i % 4], ROOMS[(i + 1) % 4]
        said = f"Turn the {room} light on" + " please" * (i % 3)
        right, wrong = json.dumps({"room": room}), json.dumps({"room": other, "value": 20})
        prompt = _prompt(tokenizer, said)
        row: dict[str, Any] = {"id": f"made:{i + 1}"}
        if form == "preference":
            chosen, rejected = _answer(tokenizer, right), _answer(tokenizer, wrong)
            row |= {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        elif form == "unpaired_preference":
            good = i % 3 != 0
            row |= {"prompt_ids": prompt, "completion_ids": _answer(tokenizer, right if good else wrong), "label": good}
        elif form == "prompts":
            messages = json.dumps([{"role": "user", "content": said}])
            row |= {"prompt_ids": prompt, "prompt": messages, "reference": json.dumps(right)}
        else:
            row |= {"input_ids": list(tokenizer(said, add_special_tokens=False)["input_ids"]), "label": i % 2}
            row["input_ids"] = list(tokenizer(f"{said} {room}", add_special_tokens=False)["input_ids"])
            row["label"] = i % 4 % 3
        rows.append(row)
    return rows


def make_rows(folder: Path, form: str, base: Path, count: int = 24, held_out: int = 8, **stats: Any) -> Path:
    """{train,validation}.parquet, stats.json and labels.json of a form."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    rows = made(form, base, count + held_out)
    for name, part in (("train", rows[:count]), ("validation", rows[count:])):
        if part:
            pq.write_table(pa.Table.from_pylist(part), folder / f"{name}.parquet")
    figures = {"train": {"rows": count, "tokens": 0, "trained_tokens": 0, "tokens_by_role": {}}}
    (folder / "stats.json").write_text(json.dumps({**STATS, "rows_form": form, "splits": figures, **stats}))
    if form == "classification":
        (folder / "labels.json").write_text(json.dumps(["kitchen", "bedroom", "bath"]))
    return folder
