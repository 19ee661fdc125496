"""From dataset files to what is trained on: read, checked, split, rendered, masked, measured. Called by the `data`
stage.

Everything wrong with the rows comes back together; nothing is dropped without being counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeft.data.faults import BadRow, Fault, raise_faults
from edgeft.data.masks import Example, Masker
from edgeft.data.rows import Entry, Row, read_rows, short_names
from edgeft.data.splits import SPLITS, overlaps, split_off
from edgeft.data.statistics import packing_figures, split_figures
from edgeft.errors import DataError
from edgeft.progress import Listener, Progress, silent

_SAY_EVERY = 200  # rows


@dataclass(frozen=True)
class Prepared:
    """A dataset ready to be written. `examples` and `dropped` are by split; every split is there, perhaps empty."""

    examples: Mapping[str, Sequence[Example]]
    dropped: Mapping[str, Sequence[Example]]
    stats: Mapping[str, Any]
    ends: tuple[int, ...]  # end-of-turn ids that training teaches


@dataclass(frozen=True)
class Plan:
    """What the `data:` section of a recipe says, with paths resolved."""

    datasets: Sequence[Entry]
    validation: Sequence[Entry] = ()
    test: Sequence[Entry] = ()
    val_set_size: float | None = None
    test_set_size: float | None = None
    sequence_len: int = 1024
    roles: Sequence[str] = ("assistant",)
    seed: int = 0
    packing: bool = False


def prepare(plan: Plan, tokenizer: Any, *, stop_ids: Sequence[int] = (), listen: Listener = silent) -> Prepared:
    """Read and tokenize a dataset. `DataError`, or `Errors` with all faults of all files, when rows cannot be used."""
    splits = read_splits(plan)
    masker = Masker(tokenizer, plan.roles, stop_ids)
    total = sum(len(rows) for rows in splits.values())
    faults: list[Fault] = []
    encoded: dict[str, list[Example]] = {}
    done = 0
    for split, rows in splits.items():
        encoded[split] = []
        for row in rows:
            example = _encode(masker.encode, row, faults)
            if example is not None:
                encoded[split].append(example)
            done += 1
            if done % _SAY_EVERY == 0 or done == total:
                listen(Progress(done, total, "row", "tokenizing"))
    raise_faults(faults)
    return _measured(plan, splits, encoded)


def read_splits(plan: Plan) -> dict[str, list[Row]]:
    """The rows of train, validation and test, read and checked without a tokenizer."""
    groups = {"train": plan.datasets, "validation": plan.validation, "test": plan.test}
    names = short_names(entry for entries in groups.values() for entry in entries)
    rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
    faults: list[Fault] = []
    for split, entries in groups.items():
        for entry in entries:
            found, wrong = read_rows(entry, names[entry.label])
            rows[split] += found
            faults += wrong
    raise_faults(faults)
    if plan.val_set_size is not None or plan.test_set_size is not None:
        divided = split_off(rows["train"], validation=plan.val_set_size, test=plan.test_set_size, seed=plan.seed)
        rows = {split: divided[split] + (rows[split] if split != "train" else []) for split in SPLITS}
    return rows


def _encode(encode: Callable[[Row], Example], row: Row, faults: list[Fault]) -> Example | None:
    try:
        return encode(row)
    except BadRow as error:
        faults.append(Fault(error.kind, row.where, error.detail))
        return None


def _measured(plan: Plan, splits: Mapping[str, list[Row]], encoded: Mapping[str, list[Example]]) -> Prepared:
    """Set rows aside that are too long (test rows stay: they are asked, not trained on) and take the figures."""
    kept: dict[str, list[Example]] = {}
    dropped: dict[str, list[Example]] = {}
    for split, examples in encoded.items():
        limit = plan.sequence_len if split != "test" else None
        kept[split] = [example for example in examples if limit is None or len(example.ids) <= limit]
        dropped[split] = [example for example in examples if limit is not None and len(example.ids) > limit]
    if not kept["train"]:
        shortest = min(len(example.ids) for example in dropped["train"])
        raise DataError(
            f"every training row is longer than sequence_len {plan.sequence_len} (the shortest has {shortest} tokens)",
            do=f"raise sequence_len to {shortest} or more",
        )
    ends = tuple(sorted({end for example in kept["train"] for end in example.ends}))
    lengths = [len(example.ids) for example in kept["train"]]
    stats = {
        "splits": {split: split_figures(kept[split], dropped[split]) for split in SPLITS},
        **overlaps(splits),
        "sequence_len": plan.sequence_len,
        "sample_packing": plan.packing,
        "packing": packing_figures(lengths, plan.sequence_len),
        "roles_to_train": sorted(plan.roles),
        "end_of_turn_ids": list(ends),
    }
    return Prepared(kept, dropped, stats, ends)


def warnings_of(prepared: Prepared, stop_ids: Sequence[int], tokenizer: Any) -> list[str]:
    """What the user should know of a dataset that can be trained on."""
    found = []
    for split, rows in prepared.dropped.items():
        if rows:
            names = ", ".join(example.row.id for example in rows[:3])
            found.append(
                f"{len(rows)} {split} rows are longer than sequence_len {prepared.stats['sequence_len']} and left out "
                f"({names}{', …' if len(rows) > 3 else ''})"
            )
    for split, leak in prepared.stats["leakage"].items():
        if leak["rows"]:
            found.append(f"{leak['rows']} {split} rows are training rows as well ({', '.join(leak['examples'][:3])})")
    doubles = prepared.stats["duplicates"]["train"]
    if doubles:
        found.append(f"{doubles} training rows are exact duplicates of others")
    for end in prepared.ends:
        if end not in stop_ids:
            text = tokenizer.convert_ids_to_tokens(end)
            found.append(
                f"training teaches the model to end its turn with {text!r}, which the base's generation config does "
                "not stop at: it is added to the stop tokens of everything that is made from this run"
            )
    return found
