"""Users' dataset files read row by row, every fault of a file found in one pass, each with file:line.

Used by the `data` stage and, through `check_rows`, by `edgeft check`; imports nothing heavy.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.data.faults import BadRow, Fault
from edgeft.data.formats import FORMATS
from edgeft.errors import DataError, Location
from edgeft.registry import lookup

_LFS = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Entry:
    """One source of rows. `name` is how it is called in messages and ids: the path as the recipe writes it."""

    path: Path
    form: str = "messages"
    name: str = ""

    @property
    def label(self) -> str:
        return self.name or str(self.path)


@dataclass(frozen=True)
class Row:
    """One row, normalised. `line` is where it stands in `file`; `id` is "file:line" with the shortest telling file
    name."""

    id: str
    file: str
    line: int
    messages: tuple[dict[str, str], ...]

    @property
    def where(self) -> Location:
        return Location(self.file, self.line)

    @property
    def key(self) -> str:
        """Equal for rows with the same turns: what makes an exact duplicate."""
        return files.digest_text(files.canonical_json(list(self.messages)))

    @property
    def question(self) -> str:
        """Equal for rows that ask the same thing: all turns but the last."""
        return files.digest_text(files.canonical_json(list(self.messages[:-1])))


def check_rows(entries: Iterable[Entry]) -> list[DataError]:
    """All faults of dataset files that show without a tokenizer, as errors ready to be told; empty when sound."""
    from edgeft.data.faults import errors_of

    faults: list[Fault] = []
    for entry in entries:
        faults += read_rows(entry)[1]
    return errors_of(faults)


def read_rows(entry: Entry, short: str | None = None) -> tuple[list[Row], list[Fault]]:
    """The sound rows of a file and its faults. `short` is the file's name in the ids."""
    turns = lookup(FORMATS, entry.form, "dataset type").load()
    label, short = entry.label, short or entry.path.name
    rows: list[Row] = []
    faults: list[Fault] = []
    try:
        for number, raw in _lines(entry.path):
            try:
                messages = tuple(checked(turns(_object(raw))))
                rows.append(Row(f"{short}:{number}", label, number, messages))
            except _Located as error:
                faults.append(Fault(error.kind, Location(label, number, error.column), error.detail))
            except BadRow as error:
                faults.append(Fault(error.kind, Location(label, number), error.detail))
    except BadRow as error:  # of the whole file
        return [], [Fault(error.kind, Location(label), error.detail)]
    if not rows and not faults:
        faults.append(Fault("empty dataset", Location(label), "the dataset is empty"))
    return rows, faults


class _Located(BadRow):
    """A bad row whose fault has a column."""

    def __init__(self, kind: str, detail: str, column: int) -> None:
        super().__init__(kind, detail)
        self.column = column


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number, bytes) of each line that is not blank. `BadRow` when the file itself cannot be read."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                if number == 1 and raw.startswith(_LFS):
                    raise BadRow("pointer", "this is a Git LFS pointer, not the dataset")
                if number == 1:
                    raw = raw.removeprefix(b"\xef\xbb\xbf")
                if raw.strip():
                    yield number, raw
    except FileNotFoundError:
        raise BadRow("missing file", "there is no such file") from None
    except (gzip.BadGzipFile, EOFError):
        raise BadRow("compressed", "the compressed file is damaged") from None
    except OSError as error:
        raise BadRow("unreadable file", f"the file cannot be read ({error.strerror or error})") from None


def _object(raw: bytes) -> dict[str, Any]:
    """The JSON object of a line."""
    try:
        text = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _Located("not utf-8", f"byte {raw[error.start]:#04x} is not UTF-8", error.start + 1) from None
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        message = error.msg[0].lower() + error.msg[1:]
        raise _Located("broken json", f"broken JSON: {message}", error.colno) from None
    except RecursionError:
        raise BadRow("broken json", "broken JSON: nested too deeply") from None
    if not isinstance(value, dict):
        from edgeft.data.formats.messages import kind_of

        raise BadRow("not an object", f"the line is {kind_of(value)}, not a JSON object")
    return value


def _no_constant(name: str) -> Any:
    raise BadRow("broken json", f"broken JSON: {name} is not JSON")


def checked(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The turns themselves, when every turn says something and their order is one that chat templates know."""
    for number, turn in enumerate(messages, 1):
        if not turn["content"].strip():
            raise BadRow("empty content", f"turn {number} ({turn['role']}) is empty")
        if any("\ud800" <= character <= "\udfff" for character in turn["content"]):
            raise BadRow("bad characters", f"turn {number} ({turn['role']}) holds characters that are not Unicode")
    roles = [turn["role"] for turn in messages]
    if "assistant" not in roles:
        raise BadRow("no assistant turn", "the row has no assistant turn")
    talk = roles[1:] if roles[0] == "system" else roles
    for position, role in enumerate(talk):
        expected = "user" if position % 2 == 0 else "assistant"
        if role != expected:
            number = position + 1 + len(roles) - len(talk)
            raise BadRow("wrong order", f"turn {number} is the {role}'s, where the {expected}'s belongs")
    if talk[-1] != "assistant":
        raise BadRow("wrong order", "the row ends with the user's turn")
    return messages


def short_names(entries: Iterable[Entry]) -> dict[str, str]:
    """label -> name in the ids: the file's own name where only one file has it, else its path as written."""
    labels = list(dict.fromkeys(entry.label for entry in entries))
    names = [Path(label).name for label in labels]
    return {label: name if names.count(name) == 1 else label for label, name in zip(labels, names, strict=True)}
