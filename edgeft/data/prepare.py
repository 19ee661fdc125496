"""From dataset files to what is trained on: read, checked, split, rendered, masked, measured, written. Called by the
`data` stage.

Two passes: the first reads the users' files and decides what becomes of each row (`scan`, `decide`), the second renders
and writes. Everything wrong with the rows comes back together; nothing is left out without being counted.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.data import decide
from edgeft.data.encode import Encoded, Encoder, Settings, encoder
from edgeft.data.faults import POLICIES, BadRow, Fault, Tally
from edgeft.data.forms import NEEDS
from edgeft.data.rows import Entry, Row
from edgeft.data.scan import DROPPED, SPLITS, Index, Reader, scan
from edgeft.data.statistics import Figures, packing_figures
from edgeft.data.store import LABELS, STATS, Writer
from edgeft.errors import DataError, Location
from edgeft.progress import Listener, Progress, silent

_SAY_EVERY = 200  # rows
_RARE = 20  # times that the rarest label may be rarer than the most frequent one


@dataclass(frozen=True)
class Plan:
    """What the `data:` section of a recipe says, with paths resolved."""

    datasets: Sequence[Entry]
    validation: Sequence[Entry] = ()
    test: Sequence[Entry] = ()
    val_set_size: float | None = None
    test_set_size: float | None = None
    objective: str = "sft"
    checks: Mapping[str, str] = field(default_factory=lambda: dict(POLICIES))
    near_threshold: float = 0.85
    labels: Sequence[str] | None = None
    sequence_len: int = 1024
    roles: Sequence[str] = ("assistant",)
    seed: int = 0
    packing: bool = False


@dataclass(frozen=True)
class Prepared:
    """A dataset that has been written: its figures (those of stats.json), and the end-of-turn ids that are trained."""

    stats: dict[str, Any]
    ends: tuple[int, ...]


def prepare(
    plan: Plan,
    tokenizer: Any,
    folder: Path,
    *,
    stop_ids: Sequence[int] = (),
    scratch: Path | None = None,
    more: Mapping[str, Any] | None = None,
    listen: Listener = silent,
) -> Prepared:
    """Read, check, render and write a dataset into `folder`. `DataError`, or `Errors` with all faults of all files,
    when rows cannot be used.

    scratch   where the rows are kept between the passes, as much again as the files; default a temporary folder
    more      goes into stats.json beside the figures
    """
    with tempfile.TemporaryDirectory(prefix="rows-", dir=scratch) as kept:
        tally = Tally(plan.checks)
        near = any(tally.policy(kind) != "skip" for kind in ("near duplicate", "near leak"))
        groups = {"train": plan.datasets, "validation": plan.validation, "test": plan.test}
        index = scan(groups, plan.objective, tally, Path(kept) / "rows.jsonl", near=near, listen=listen)
        overlaps = _decide(plan, index, tally)
        settings = Settings(plan.objective, plan.roles, stop_ids, plan.sequence_len, _labels(plan, index, tally))
        render = _Second(plan, encoder(tokenizer, settings), tally, folder)
        render.walk(index, decide.repeats(index, plan.seed), listen)
    tally.raise_errors()
    render.check_left()
    stats = _stats(plan, index, tally, render, overlaps, stop_ids) | dict(more or {})
    if NEEDS[plan.objective] == "classification":
        files.write_json(folder / LABELS, list(settings.labels))
    files.write_json(folder / STATS, stats)
    return Prepared(stats, render.ends)


def _decide(plan: Plan, index: Index, tally: Tally) -> dict[str, Any]:
    """Samples, splits, duplicates and leakage: what becomes of each row. The figures of stats.json."""
    reader = Reader(index)
    try:
        left = decide.take_samples(index, plan.seed)
        if not tally.errors():
            decide.split_off(index, validation=plan.val_set_size, test=plan.test_set_size, seed=plan.seed)
        found = decide.find_equals(index, tally, reader)
        return {**found, **decide.find_near(index, tally, reader, plan.near_threshold), "not_sampled": left}
    finally:
        reader.close()


def _labels(plan: Plan, index: Index, tally: Tally) -> list[str]:
    """The names of classes in order: the recipe's, else those of the training rows, sorted (numbers by value)."""
    counts: Counter[str] = Counter()
    for number, row in enumerate(index.read()):
        if index.split[number] == decide.TRAIN and isinstance(row.value.get("label"), str):
            counts[row.value["label"]] += 1
    if len(counts) > 1:
        (often, most), (rarely, least) = counts.most_common()[0], counts.most_common()[-1]
        if least * _RARE < most:
            detail = f"the label {rarely!r} has {least} training rows, {often!r} has {most}"
            tally.add(Fault("imbalance", Location(index.entries[0].label), detail))
    if plan.labels is not None:
        return list(plan.labels)
    return sorted(counts, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))


class _Second:
    """The second pass: rows rendered, cut or left out, and written."""

    def __init__(self, plan: Plan, encoder: Encoder, tally: Tally, folder: Path) -> None:
        self._plan, self._encoder, self._tally = plan, encoder, tally
        need = NEEDS[plan.objective]
        self._writers = {split: Writer(folder, split, need if split != "test" else None) for split in SPLITS}
        self.figures = {split: Figures() for split in SPLITS}

    def walk(self, index: Index, repeats: Mapping[int, int], listen: Listener) -> None:
        for number, row in enumerate(index.read()):
            if index.split[number] != DROPPED:
                self._row(row, SPLITS[index.split[number]], repeats.get(number, 1))
            if (number + 1) % _SAY_EVERY == 0 or number + 1 == len(index):
                listen(Progress(number + 1, len(index), "row", "tokenizing"))
        for writer in self._writers.values():
            writer.close()

    def _row(self, row: Row, split: str, times: int) -> None:
        if not times:
            return
        try:
            found = self._encoder.encode(row)
        except BadRow as error:
            self._tally.add(Fault(error.kind, row.where, error.detail))
            return
        limit = self._plan.sequence_len if split != "test" else None
        kept = [one for each in found if (one := self._fitted(each, row, split, limit)) is not None]
        if not kept:
            return
        figures, writer = self.figures[split], self._writers[split]
        figures.sources += 1
        writer.row(row, asked=split != "train")
        for encoded in kept:
            writer.encoded(encoded)
            figures.add(encoded)
            for again in range(2, times + 1):
                writer.encoded(_named(encoded, f"{encoded.id} ({again})"))
                figures.repeat(encoded)

    def _fitted(self, encoded: Encoded, row: Row, split: str, limit: int | None) -> Encoded | None:
        """The sequence, cut to the limit when it is longer and may be cut; None when it is left out."""
        if limit is None or encoded.length <= limit:
            return encoded
        what = f"the row has {encoded.length} tokens, more than sequence_len {limit}"
        if self._tally.add(Fault("too long", row.where, what)) != "truncate":
            self.figures[split].leave_out(encoded)
            return None
        shorter = self._encoder.cut(encoded, limit)
        if shorter is None:
            detail = f"of the row's {encoded.length} tokens none of the first {limit} would be trained"
            self._tally.add(Fault("nothing to train", row.where, detail))
            self.figures[split].leave_out(encoded)
            return None
        self.figures[split].cut(encoded, shorter.length)
        return shorter

    def check_left(self) -> None:
        """A `DataError` when nothing is left to train on."""
        train = self.figures["train"]
        if train.lengths:
            return
        shortest = train.shortest_dropped
        if not shortest:
            raise DataError(
                "no training row is left: the checks left out all of them",
                do="edgeft check tells what is wrong; data.checks says what becomes of such rows",
            )
        raise DataError(
            f"every training row is longer than sequence_len {self._plan.sequence_len} (the shortest has {shortest} "
            "tokens)",
            do=f"raise sequence_len to {shortest} or more",
        )

    @property
    def ends(self) -> tuple[int, ...]:
        return tuple(sorted(self.figures["train"].ends))


def _named(encoded: Encoded, name: str) -> Encoded:
    from dataclasses import replace

    return replace(encoded, id=name)


def _stats(
    plan: Plan, index: Index, tally: Tally, render: _Second, overlaps: Mapping[str, Any], stop_ids: Sequence[int]
) -> dict[str, Any]:
    return {
        "rows_form": NEEDS[plan.objective],
        "objective": plan.objective,
        "forms": index.forms,
        "forms_found_out": index.guessed,
        "splits": {split: figures.table() for split, figures in render.figures.items()},
        **overlaps,
        "checks": tally.table(),
        "sequence_len": plan.sequence_len,
        "sample_packing": plan.packing,
        "packing": packing_figures(render.figures["train"].lengths, plan.sequence_len),
        "roles_to_train": sorted(plan.roles),
        "end_of_turn_ids": list(render.ends),
        "stop_ids": sorted({*stop_ids, *render.ends}),
    }


_TOLD = {
    "duplicates": "training rows are exact duplicates of others",
    "near_duplicates": "training rows are nearly the same as others",
    "leakage": "training rows are validation or test rows as well",
    "near_leakage": "training rows are nearly validation or test rows",
    "imbalance": "labels are rare",
}


def warnings_of(prepared: Prepared, stop_ids: Sequence[int], tokenizer: Any) -> list[str]:
    """What the user should know of a dataset that can be trained on."""
    stats = prepared.stats
    found = [f"the rows of {name} are taken as {stats['forms'][name]}" for name in _aloud(stats)]
    for split, figures in stats["splits"].items():
        for key, what in (("too_long", "left out"), ("truncated", "cut")):
            rows, names = figures[key]["rows"], figures[key]["examples"][:3]
            if rows:
                found.append(
                    f"{rows} {split} rows are longer than sequence_len {stats['sequence_len']} and {what} "
                    f"({', '.join(names)}{', …' if rows > 3 else ''})"
                )
    for check, table in stats["checks"].items():
        if table["rows"] and check != "too_long":
            found.append(_check_said(check, table))
    for label, left in stats["not_sampled"].items():
        if left:
            found.append(f"{left} rows of {label} are not in its sample")
    for end in prepared.ends:
        if end not in stop_ids:
            text = tokenizer.convert_ids_to_tokens(end)
            found.append(
                f"training teaches the model to end its turn with {text!r}, which the base's generation config does "
                "not stop at: it is added to the stop tokens of everything that is made from this run"
            )
    return found


def _aloud(stats: Mapping[str, Any]) -> list[str]:
    """The datasets whose form was found out and is not the most common one."""
    return [name for name in stats["forms_found_out"] if stats["forms"][name] != "messages"]


def _check_said(check: str, table: Mapping[str, Any]) -> str:
    first = table["examples"][0]
    what = _TOLD.get(check) or f"rows: {first['what']}"
    fate = (
        "left out"
        if table["dropped"] == table["rows"]
        else f"{table['dropped']} left out"
        if table["dropped"]
        else "kept"
    )
    places = ", ".join(first["where"][:3])
    return f"{table['rows']} {what} ({places}{', …' if table['rows'] > 3 else ''}): {fate}"
