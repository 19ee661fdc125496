"""A file of rows, read record by record: JSONL, JSON, CSV, TSV, Parquet and Arrow, plain or compressed.

Called by `edgeft.data.rows`. Nothing is held but the record at hand (of tables one batch), so a file may be larger than
memory. JSON, CSV and TSV need no package; Parquet and Arrow need pyarrow, .zst needs zstandard.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from edgeft import extras
from edgeft.data.faults import BadRow
from edgeft.data.formats.turns import kind_of
from edgeft.datafiles import format_of

Record = tuple[int, "dict[str, Any] | BadRow"]  # the line it begins on (of tables in binary: its number), from 1

TABLES = (".parquet", ".arrow")
_LFS = b"version https://git-lfs.github.com/spec/"
_BATCH = 1024
_CHUNK = 1 << 20
_LARGEST = 64 << 20  # characters of one element of a JSON array
# Fields whose text in a CSV file may be JSON.
_NESTED = ("messages", "conversations", "prompt", "completion", "chosen", "rejected", "json", "tools", "schema")


def records(path: Path) -> Iterator[Record]:
    """(line, row) of each record; a row that cannot be read is a `BadRow` in its place. Raises `BadRow` when the file
    itself cannot be read, `MissingError` when a package is not installed."""
    ending = format_of(path.name)
    if ending is None and path.suffix not in ("", ".txt"):
        raise BadRow("unknown ending", f"files that end in {path.suffix} are not read")
    try:
        if ending in TABLES:
            yield from _arrow_table(path, ending)
            return
        with _opened(path) as stream:
            if ending == ".json":
                yield from _json(_text(stream))
            elif ending in (".csv", ".tsv"):
                yield from _csv(_text(stream), "\t" if ending == ".tsv" else ",")
            else:
                yield from _lines(stream)
    except FileNotFoundError:
        raise BadRow("missing file", "there is no such file") from None
    except UnicodeDecodeError as error:
        raise BadRow("unreadable file", f"byte {error.object[error.start]:#04x} is not UTF-8") from None
    except (gzip.BadGzipFile, EOFError):
        raise BadRow("compressed", "the compressed file is damaged") from None
    except OSError as error:
        raise BadRow("unreadable file", f"the file cannot be read ({error.strerror or error})") from None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed; a Git LFS pointer is told from the content it stands for."""
    with _raw(path) as raw:
        stream = io.BufferedReader(raw, _CHUNK)  # type: ignore[arg-type]
        if stream.peek(len(_LFS)).startswith(_LFS):
            raise BadRow("pointer", "this is a Git LFS pointer, not the dataset")
        yield stream  # type: ignore[misc]


@contextmanager
def _raw(path: Path) -> Iterator[Any]:
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            yield stream
    elif path.suffix == ".zst":
        extras.require("train")
        import zstandard

        try:
            with (
                path.open("rb") as compressed,
                zstandard.ZstdDecompressor().stream_reader(compressed, read_across_frames=True) as stream,
            ):
                yield stream
        except zstandard.ZstdError:
            raise BadRow("compressed", "the compressed file is damaged") from None
    else:
        with path.open("rb", buffering=0) as stream:
            yield stream


def _text(stream: BinaryIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")


def _lines(stream: BinaryIO) -> Iterator[Record]:
    for number, raw in enumerate(stream, 1):
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if raw.strip():
            yield number, _object(raw)


def _object(raw: bytes) -> dict[str, Any] | BadRow:
    """The JSON object of a line."""
    try:
        text = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        return BadRow("not utf-8", f"byte {raw[error.start]:#04x} is not UTF-8", error.start + 1)
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        return BadRow("broken json", _said(error), error.colno)
    except RecursionError:
        return BadRow("broken json", "broken JSON: nested too deeply")
    except BadRow as error:
        return error
    return (
        value
        if isinstance(value, dict)
        else BadRow("not an object", f"the line is {kind_of(value)}, not a JSON object")
    )


def _said(error: json.JSONDecodeError) -> str:
    return f"broken JSON: {error.msg[0].lower()}{error.msg[1:]}"


def _no_constant(name: str) -> Any:
    raise BadRow("broken json", f"broken JSON: {name} is not JSON")


def _json(stream: io.TextIOWrapper) -> Iterator[Record]:
    """The elements of a list, or objects one after the other. The rest of the file after a syntax error is lost, which
    is one broken row."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    text, at, line, opened, done = stream.read(_CHUNK), 0, 1, False, False
    while True:
        start = _skipped(text, at, ", \t\r\n" if opened else " \t\r\n")
        line += text.count("\n", at, start)
        at = start
        if at == len(text):
            text, at = stream.read(_CHUNK), 0
            if not text:
                if opened:
                    yield line, BadRow("broken json", "broken JSON: the list is never closed")
                return
            continue
        if done or (opened and text[at] == "]"):
            if done:
                yield line, BadRow("broken json", "broken JSON: text behind the end of the list")
                return
            at, opened, done = at + 1, False, True
            continue
        if not opened and text[at] == "[":
            at, opened = at + 1, True
            continue
        try:
            value, stop = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            more = stream.read(max(_CHUNK, len(text) - at)) if len(text) - at < _LARGEST else ""
            if not more:
                yield line + text.count("\n", at, error.pos), BadRow("broken json", _said(error))
                return
            text, at = text[at:] + more, 0
            continue
        except (BadRow, RecursionError) as bad:
            what = bad if isinstance(bad, BadRow) else BadRow("broken json", "broken JSON: nested too deeply")
            yield line, what
            return
        yield (
            line,
            value
            if isinstance(value, dict)
            else BadRow("not an object", f"the entry is {kind_of(value)}, not an object"),
        )
        line += text.count("\n", at, stop)
        at = stop


def _skipped(text: str, at: int, blanks: str) -> int:
    while at < len(text) and text[at] in blanks:
        at += 1
    return at


def _csv(stream: Iterable[str], separator: str) -> Iterator[Record]:
    """The lines below the header. Fields that hold JSON lists or objects are read as such."""
    csv.field_size_limit(_LARGEST)
    reader = csv.reader(stream, delimiter=separator, strict=True)
    header: list[str] = []
    line = 1
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, BadRow("broken table", f"broken table: {error}")
            continue
        if not cells:
            continue
        if not header:
            header = [name.strip() for name in cells]
        elif len(cells) != len(header):
            yield line, BadRow("broken table", f"the line has {len(cells)} fields, the header {len(header)}")
        else:
            yield line, {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)}


def _cell(name: str, cell: str) -> Any:
    if name in _NESTED and cell[:1] in ("[", "{"):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell


def _arrow_table(path: Path, ending: str) -> Iterator[Record]:
    extras.require("train")
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise FileNotFoundError
    number = 0
    try:
        if ending == ".parquet":
            with pq.ParquetFile(path) as table:
                batches = table.iter_batches(_BATCH)
                for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
                    yield number, _pruned(row)
            return
        with pa.memory_map(str(path)) as source:
            for number, row in enumerate((row for batch in _batches(pa, source) for row in batch.to_pylist()), 1):
                yield number, _pruned(row)
    except pa.ArrowException as error:
        raise BadRow("unreadable file", f"the table cannot be read ({str(error).splitlines()[0][:100]})") from None


def _batches(pa: Any, source: Any) -> Iterator[Any]:
    """Record batches of an Arrow file in either form: a stream (as the `datasets` cache has them) or a file."""
    try:
        yield from pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        reader = pa.ipc.open_file(source)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)


def _pruned(value: Any) -> Any:
    """Without the nulls of a table's structs: fields that a row does not have."""
    if isinstance(value, dict):
        return {key: _pruned(entry) for key, entry in value.items() if entry is not None}
    return [_pruned(entry) for entry in value] if isinstance(value, list) else value
