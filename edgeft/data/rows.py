"""Users' dataset files read row by row, every fault counted with file:line, sound rows in one form.

Used by the `data` stage (through `edgeft.data.scan`) and by `edgeft check`; imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.data import characters, forms
from edgeft.data.faults import BadRow, Fault, Tally
from edgeft.data.formats import FORMATS, detected, keys_of
from edgeft.data.reading import records
from edgeft.datafiles import files_of
from edgeft.errors import DataError, EdgeftError, Location
from edgeft.registry import lookup

Normal = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """One source of rows: a file, a glob or a folder.

    form     None: found out from the first row
    name     how it is called in messages and ids: the path as the recipe writes it
    fields   names that the form expects -> names that the rows have ("a.b" is b inside a)
    sample   only so many of its rows
    weight   how many times each training row counts
    """

    path: Path
    form: str | None = None
    name: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    sample: int | None = None
    weight: float = 1.0
    split: str | None = None
    subset: str | None = None
    system: str | None = None

    @property
    def label(self) -> str:
        return self.name or str(self.path)

    def files(self) -> list[tuple[str, Path]]:
        """(name in messages, path) of each of its files. `DataError` when there are none."""
        found = files_of(self.path, split=self.split, subset=self.subset)
        if found == [self.path]:
            return [(self.label, self.path)]
        if self.path.is_dir():
            return [(f"{self.label.rstrip('/')}/{path.relative_to(self.path).as_posix()}", path) for path in found]
        return [(path.name, path) for path in found]


@dataclass(frozen=True)
class Row:
    """One row, normalised: `value` holds what its kind of rows holds (`messages`, `text`, `prompt` and `chosen`, …).
    `line` is where it stands in `file`; `id` is "file:line" with the shortest telling file name."""

    id: str
    file: str
    line: int
    value: dict[str, Any]

    @property
    def where(self) -> Location:
        return Location(self.file, self.line)

    @property
    def key(self) -> str:
        """Equal for rows that say the same: what makes an exact duplicate."""
        return files.digest_text(files.canonical_json(self.value))

    @property
    def question(self) -> str:
        """Equal for rows that ask the same thing."""
        return files.digest_text(files.canonical_json(forms.asked(self.value)))


@dataclass
class Reading:
    """How an entry is read: for which objective, and what was found out on the way."""

    objective: str = "sft"
    form: str | None = None  # of the entry; found out from its first row when it names none
    rows: int = 0


def read_rows(entry: Entry, objective: str = "sft") -> tuple[list[Row], list[DataError]]:
    """The sound rows of an entry, and every fault of the others as an error; for callers that hold all rows."""
    tally = Tally()
    rows = list(read(entry, tally, Reading(objective)))
    return rows, tally.errors()


def check_rows(entries: Iterable[Entry], objective: str = "sft") -> list[DataError]:
    """All faults of dataset files that show without a tokenizer, as errors ready to be told; empty when sound."""
    tally = Tally()
    for entry in entries:
        for _ in read(entry, tally, Reading(objective)):
            pass
    return tally.errors()


def read(entry: Entry, tally: Tally, reading: Reading, names: Mapping[str, str] | None = None) -> Iterator[Row]:
    """The rows of an entry that may be used, one by one; what is wrong goes to `tally`.

    names   file -> its name in the ids; default the file's own name
    """
    reading.form = reading.form or entry.form
    if reading.form is not None:
        lookup(FORMATS, reading.form, "dataset type")
    try:
        listed = entry.files()
    except EdgeftError as error:
        tally.add(Fault("missing file", error.where or Location(entry.label), error.what))
        return
    faulty = False
    for label, path in listed:
        short = (names or {}).get(label) or Path(label).name
        try:
            for line, found in records(path):
                rows, wrong = _rows(found, entry, reading, label, line, short)
                faulty = faulty or bool(wrong)
                fates = [tally.add(fault) for fault in wrong]  # every one is counted
                if "error" not in fates and "drop" not in fates:
                    reading.rows += len(rows)
                    yield from rows
        except BadRow as error:  # of the whole file
            faulty = True
            tally.add(Fault(error.kind, Location(label), error.detail))
    if not reading.rows and not faulty:
        tally.add(Fault("empty dataset", Location(entry.label), "the dataset is empty"))


def _rows(
    found: dict[str, Any] | BadRow, entry: Entry, reading: Reading, label: str, line: int, short: str
) -> tuple[list[Row], list[Fault]]:
    """The rows that a record gives, and what is wrong with it."""
    wrong: list[Fault] = []

    def fault(bad: BadRow) -> None:
        wrong.append(Fault(bad.kind, Location(label, line, bad.column), bad.detail))

    if isinstance(found, BadRow):
        fault(found)
        return [], wrong
    try:
        raw = mapped(found, entry.fields)
        form, other = _form(raw, reading)
        if other:
            fault(other)
        value = FORMATS[form].load()(raw)
        if entry.system:
            value = forms.with_system(value, entry.system)
        for bad in faults_in(value):
            fault(bad)
        if other and forms.refusal(form, reading.objective):
            return [], wrong
        forms.check(form, reading.objective, Location(label, line))
        given = forms.converted(value, form, reading.objective)
    except BadRow as error:
        if not wrong:  # a row of another form is told once
            fault(error)
        return [], wrong
    return [Row(f"{short}:{line}{suffix}", label, line, one) for suffix, one in given], wrong


def _form(raw: dict[str, Any], reading: Reading) -> tuple[str, BadRow | None]:
    """The form to read a row by; and a fault when it is not that of its dataset."""
    own = detected(raw)
    if reading.form is None:
        if own is None:
            keys = ", ".join(repr(key) for key in list(raw)[:6]) or "none"
            raise BadRow("unknown form", f"no form of rows has these fields: {keys}")
        reading.form = own
    wanted = keys_of(reading.form)
    if own in (None, reading.form) or any(all(key in raw for key in keys) for keys in wanted):
        return reading.form, None
    assert own is not None
    if any(set(found) < set(keys) for found in keys_of(own) for keys in wanted):  # it only lacks something
        return reading.form, None
    missing = next(key for key in wanted[0] if key not in raw)
    return own, BadRow("mixed forms", f'the row has no "{missing}" (it looks like {own})')


def mapped(raw: dict[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """The row with the names that its form expects."""
    if not fields:
        return raw
    taken: dict[str, Any] = {}
    for ours, theirs in fields.items():
        value: Any = raw
        for part in [theirs] if theirs in raw else theirs.split("."):
            if not isinstance(value, dict) or part not in value:
                raise BadRow("wrong form", f'the row has no "{theirs}", which is to be its "{ours}"')
            value = value[part]
        taken[ours] = value
    return {key: value for key, value in raw.items() if key not in fields.values()} | taken


def faults_in(value: dict[str, Any]) -> Iterator[BadRow]:
    """What is wrong with the turns and texts of a normalised row."""
    talks = forms.conversations(value)
    for index, turns in enumerate(talks):
        found = _faults_of(turns, needs_answer=any(key in value for key in ("messages", "completion", "chosen")))
        if found and (index == 0 or turns != talks[0]):
            yield found
            break
    if "text" in value and not value["text"].strip():
        yield BadRow("empty content", "the text is empty")
    for name, text in _texts(value):
        if characters.has_surrogates(text):
            yield BadRow("bad characters", f"{name} holds characters that are not Unicode")
            return
    for kind, look in (("control characters", characters.control), ("secret", characters.secret)):
        for name, text in _texts(value):
            told = look(text)
            if told:
                yield BadRow(kind, f"{name} holds {told}")
                break


def _texts(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for turns in forms.conversations(value):
        for number, turn in enumerate(turns, 1):
            for key in ("content", "reasoning_content"):
                if key in turn:
                    yield f"turn {number} ({turn['role']})", turn[key]
            if "tool_calls" in turn:
                yield f"turn {number} ({turn['role']})", files.canonical_json(turn["tool_calls"])
    for key in ("text", "label"):
        if isinstance(value.get(key), str):
            yield f"the {key}", value[key]


def _faults_of(turns: list[dict[str, Any]], *, needs_answer: bool) -> BadRow | None:
    """The first fault of a conversation: every turn says something, their order is one that chat templates know."""
    for number, turn in enumerate(turns, 1):
        if not turn["content"].strip() and "tool_calls" not in turn and turn["role"] != "tool":
            return BadRow("empty content", f"turn {number} ({turn['role']}) is empty")
    roles = [turn["role"] for turn in turns]
    if needs_answer and "assistant" not in roles:
        return BadRow("no assistant turn", "the row has no assistant turn")
    skipped = 1 if roles and roles[0] == "system" else 0
    expected = ["user"]
    for position in range(skipped, len(turns)):
        role, number = roles[position], position + 1
        if role not in expected:
            return BadRow("wrong order", f"turn {number} is the {role}'s, where the {expected[0]}'s belongs")
        if role == "assistant":
            expected = ["tool"] if "tool_calls" in turns[position] else ["user"]
        else:
            expected = ["assistant", "tool"] if role == "tool" else ["assistant"]
    if needs_answer and roles[-1] != "assistant":
        return BadRow("wrong order", f"the row ends with the {roles[-1]}'s turn")
    if not roles[skipped:]:
        return BadRow("empty content", "the row has no turns")
    return None


def short_names(labels: Iterable[str]) -> dict[str, str]:
    """label -> name in the ids: the file's own name where only one file has it, else its path as written."""
    found = list(dict.fromkeys(labels))
    names = [Path(label).name for label in found]
    return {label: name if names.count(name) == 1 else label for label, name in zip(found, names, strict=True)}
