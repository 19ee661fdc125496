"""YAML text to plain values, every key and value with its place. Used by `edgeft.recipe.load` for files and `--set`.

Reads YAML 1.2's core schema from ruamel.yaml's parser events, and nothing more than a recipe needs: one document, no
tags, no merge keys. Duplicate keys are refused; aliases may not expand beyond `MAX_NODES`, nesting not beyond
`MAX_DEPTH`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft.errors import Errors, Location, RecipeError

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
MAX_DEPTH = 32
Key = tuple[str | int, ...]

_NULL = re.compile(r"^(~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")
# What ruamel.yaml's scanner and parser say, in the words of somebody who writes recipes.
_WORDS = (
    (r"found character '\\t'", "a tab stands where YAML allows only spaces", "indent with spaces"),
    (
        r"mapping values are not allowed",
        "a second ':' on this line, or wrong indentation",
        "quote text that holds ': '",
    ),
    (r"could not find expected ':'", "a line without 'key: value'", "write it as: key: value"),
    (r"expected <block end>", "this line's indentation fits no line above it", "align it with its neighbours"),
    (
        r"but (found|got) '<stream end>'|unexpected end of stream",
        "something opened is never closed",
        "close ] } or quotes",
    ),
    (r"expected ',' or", "a ',' or a closing bracket is missing", "separate entries with ','"),
    (r"cannot start any token", "a value cannot begin with this character", "put the value in quotes"),
    (r"unknown escape character", "an unknown escape in a quoted text", "use single quotes, or double the backslash"),
)


@dataclass
class Tree:
    """Plain values, and where each stands. Locations are by key path: ("data", "datasets", 0, "path")."""

    value: Any
    keys: dict[Key, Location] = field(default_factory=dict)  # where a mapping's key stands
    values: dict[Key, Location] = field(default_factory=dict)  # where a value stands
    quoted: set[Key] = field(default_factory=set)  # texts in quotes: they begin one column after their place

    def locate(self, key: Key, *, name: bool = False) -> Location | None:
        """Where a value (or with `name` its key) stands, or else the nearest enclosing value."""
        if name and key in self.keys:
            return self.keys[key]
        for end in range(len(key), -1, -1):
            if key[:end] in self.values:
                return self.values[key[:end]]
        return None

    def move(self, old: Key, new: Key) -> None:
        """Let the places of a value and all below it be found at another path too."""
        for places in (self.values, self.keys):
            for path in [path for path in places if path[: len(old)] == old]:
                places[new + path[len(old) :]] = places[path]
        self.quoted |= {new + path[len(old) :] for path in self.quoted if path[: len(old)] == old}

    def forget(self, key: Key) -> None:
        """Drop the places of a value and all below it."""
        for places in (self.values, self.keys):
            for path in [path for path in places if path[: len(key)] == key]:
                del places[path]
        self.quoted = {path for path in self.quoted if path[: len(key)] != key}


@dataclass(frozen=True)
class _Node:
    """A parsed node: a scalar's value, a list of nodes, or a list of (key, key's place, node)."""

    kind: str  # "scalar", "list", "mapping"
    content: Any
    place: Location
    alias: bool = False
    quoted: bool = False


def read_file(path: Path) -> Tree:
    """The tree of a recipe file. Raises `RecipeError` or `Errors`."""
    where = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError("there is no such recipe", where=where, do="edgeft init writes one") from None
    except IsADirectoryError:
        raise RecipeError("this is a folder, not a recipe", where=where, do="name the YAML file in it") from None
    except OSError as error:
        raise RecipeError(f"the recipe cannot be read: {error.strerror}", where=where) from None
    if len(data) > MAX_BYTES:
        raise RecipeError("the recipe is larger than 1 MiB", where=where, do="is this a recipe, and not the data?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        place = Location(where, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise RecipeError("the recipe is not UTF-8 text", where=place, do="save it as UTF-8") from None
    return read_text(text, where)


def read_text(text: str, name: str, *, placed: bool = True) -> Tree:
    """The tree of a YAML text. `name` stands for the file in locations; without `placed` they carry no line."""
    node = _Reader(text, name, placed).document()
    tree = Tree(None)
    tree.value = _Expansion(tree).expand(node, ())
    return tree


class _Reader:
    """Builds nodes from parser events."""

    def __init__(self, text: str, name: str, placed: bool) -> None:
        self.text = text
        self.name = name
        self.placed = placed
        self.anchors: dict[str, _Node] = {}
        self.open: list[Any] = []  # marks of the lists and mappings that are not closed yet
        self.faults: list[RecipeError] = []

    def document(self) -> _Node:
        events = self._events()
        node = None
        while (event := next(events, None)) is not None:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                if node is not None:
                    raise RecipeError("a second document begins", where=self._place(event), do="one recipe per file")
                node = self._node(next(events), events, 0)
        if self.faults:
            raise self.faults[0] if len(self.faults) == 1 else Errors(self.faults)
        return node or _Node("scalar", None, Location(self.name))

    def _events(self) -> Iterator[Any]:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError
        from ruamel.yaml.reader import ReaderError

        try:
            for event in YAML(typ="safe", pure=True).parse(self.text):
                name = type(event).__name__
                if name in ("SequenceStartEvent", "MappingStartEvent"):
                    self.open.append(event.start_mark)
                elif name in ("SequenceEndEvent", "MappingEndEvent"):
                    self.open.pop()
                yield event
        except ReaderError as error:
            before = self.text[: error.position]
            place = self._at(before.count("\n"), len(before) - before.rfind("\n") - 1)
            raise RecipeError(
                f"a control character (U+{ord(self.text[error.position]):04X}) in the text", where=place, do="remove it"
            ) from None
        except MarkedYAMLError as error:
            raise self._syntax(error) from None

    def _syntax(self, error: Any) -> RecipeError:
        problem = str(error.problem)
        mark = error.problem_mark or error.context_mark
        for pattern, what, do in _WORDS:
            if re.search(pattern, problem):
                if "never closed" in what or "without 'key" in what:
                    mark = self._opening(error) or mark
                return RecipeError(what, where=self._at(mark.line, mark.column), do=do)
        return RecipeError(f"this is not YAML: {problem}", where=self._at(mark.line, mark.column))

    def _opening(self, error: Any) -> Any:
        """Where that began which is not closed."""
        if "quoted" in str(error.context) or "simple key" in str(error.context):
            return error.context_mark
        return self.open[-1] if self.open else error.context_mark

    def _at(self, line: int, column: int) -> Location:
        return Location(self.name, line + 1, column + 1) if self.placed else Location(self.name)

    def _place(self, event: Any) -> Location:
        return self._at(event.start_mark.line, event.start_mark.column)

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> _Node:
        place = self._place(event)
        if depth > MAX_DEPTH:
            raise RecipeError(f"nested more than {MAX_DEPTH} deep", where=place)
        kind = type(event).__name__
        if kind == "AliasEvent":
            if event.anchor not in self.anchors:
                raise RecipeError(
                    f"*{event.anchor} refers to nothing above it", where=place, do="define it first with &"
                )
            known = self.anchors[event.anchor]
            return _Node(known.kind, known.content, place, alias=True)
        if event.tag is not None:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            raise RecipeError(f"YAML tags are not allowed in a recipe: {tag}", where=place, do="remove the tag")
        if kind == "ScalarEvent":
            node = _Node("scalar", self._scalar(event, place), place, quoted=event.style in ("'", '"'))
        elif kind == "SequenceStartEvent":
            node = _Node("list", self._list(events, depth), place)
        else:
            node = _Node("mapping", self._mapping(events, depth), place)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _list(self, events: Iterator[Any], depth: int) -> list[_Node]:
        items = []
        while type(event := next(events)).__name__ != "SequenceEndEvent":
            items.append(self._node(event, events, depth + 1))
        return items

    def _mapping(self, events: Iterator[Any], depth: int) -> list[tuple[str, Location, _Node]]:
        pairs: list[tuple[str, Location, _Node]] = []
        seen: dict[str, Location] = {}
        while type(event := next(events)).__name__ != "MappingEndEvent":
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if key.kind != "scalar":
                raise RecipeError("a key must be a word, not a list or a mapping", where=key.place)
            if key.content == "<<":
                raise RecipeError("merge keys (<<) are not part of YAML 1.2", where=key.place, do="write the keys out")
            name = key.content if isinstance(key.content, str) else str(getattr(event, "value", key.content))
            if name in seen:
                first = f" (first at line {seen[name].line})" if self.placed else ""
                self.faults.append(RecipeError(f"the key {name!r} stands here twice{first}", where=key.place))
                continue
            seen[name] = key.place
            pairs.append((name, key.place, value))
        return pairs

    def _scalar(self, event: Any, place: Location) -> Any:
        text: str = event.value
        if not event.implicit[0]:
            return text
        if _NULL.match(text):
            return None
        if _BOOL.match(text):
            return text.lower() == "true"
        if _INT.match(text):
            if len(text) > 40:
                raise RecipeError("a number of more than 40 digits", where=place)
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _FLOAT.match(text):
            return float(re.sub(r"\.(?=[iInN])", "", text))
        return text


class _Expansion:
    """Nodes to plain values, aliases copied out, with a bound on how many values that may make."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.count = 0

    def expand(self, node: _Node, path: Key, alias: Location | None = None) -> Any:
        """The plain value of a node; `alias` is the outermost alias that it came through."""
        alias = alias or (node.place if node.alias else None)
        self.count += 1
        if self.count > MAX_NODES:
            raise RecipeError(
                f"aliases expand to more than {MAX_NODES} values", where=alias or node.place, do="write the values out"
            )
        self.tree.values[path] = node.place
        if node.quoted:
            self.tree.quoted.add(path)
        if node.kind == "list":
            return [self.expand(item, (*path, index), alias) for index, item in enumerate(node.content)]
        if node.kind == "mapping":
            expanded = {}
            for name, place, value in node.content:
                self.tree.keys[(*path, name)] = place
                expanded[name] = self.expand(value, (*path, name), alias)
            return expanded
        return node.content
