"""What pydantic says about a recipe, in plain words with file:line:column. Called by `edgeft.recipe.load`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from edgeft.errors import RecipeError
from edgeft.recipe.keys import hint, pattern
from edgeft.recipe.names import VALUES
from edgeft.recipe.tree import Key, Tree

_WANTED = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be a section of 'key: value' lines",
    "model_type": "must be a section of 'key: value' lines",
    "model_attributes_type": "must be a section of 'key: value' lines",
    "string_too_short": "must not be empty",
}
_RANGES = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
# Keys with a short form: what they may be.
_FORMS: dict[Key, str] = {
    ("gate",): "must be a list of lines",
    ("export",): "must be a list of names",
    ("merge",): "must be true, false or a section",
}
_YAML_1_1 = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def faults_of(errors: Sequence[Mapping[str, Any]], tree: Tree) -> list[RecipeError]:
    """All of them; a key that is missing because it is misspelt is told once."""
    found = [fault(error, tree) for error in errors]
    hints = {one.do for error, one in zip(errors, found, strict=True) if error["type"] == "extra_forbidden"}
    return [
        one
        for error, one in zip(errors, found, strict=True)
        if error["type"] != "missing" or f"did you mean {error['loc'][-1]!r}?" not in hints
    ]


def fault(error: Mapping[str, Any], tree: Tree) -> RecipeError:
    """One entry of `ValidationError.errors()` as a `RecipeError`."""
    kind: str = error["type"]
    path = _path(error["loc"], tree.value, missing=kind == "missing")
    if kind == "extra_forbidden":
        return _unknown(path, tree)
    if kind == "missing":
        return _missing(path, tree)
    where = tree.locate(path)
    if kind == "literal_error":
        return _not_among(path, error, tree)
    if kind == "string_pattern_mismatch":
        what = f"{path[-1]!r} is not a name" if error["loc"][-1] == "[key]" else f"{_dotted(path)} is not a name"
        return RecipeError(what, where=tree.locate(path, name=True), do="use letters, digits, _ and -; no dots")
    value = error["input"]
    if kind in _RANGES:
        words, key = _RANGES[kind]
        return RecipeError(f"{_dotted(path)} must be {words} {error['ctx'][key]:g}, got {shown(value)}", where=where)
    if kind in ("too_short", "dict_too_short"):
        return RecipeError(f"{_dotted(path)} needs at least one entry", where=where)
    if kind in _WANTED:
        what = f"{_dotted(path)} {_FORMS.get(path, _WANTED[kind])}"
        return RecipeError(
            f"{what}, got {shown(value)}" if value != "" else what, where=where, do=_do(kind, path, value)
        )
    return RecipeError(f"{_dotted(path)}: {error['msg']}", where=where)


def shown(value: Any) -> str:
    """A value as an error names it: what it is, and what it says when that is short."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) <= 40 else f"the text {value[:37]!r}..."
    return "a list" if isinstance(value, list) else "a section"


def _dotted(path: Key) -> str:
    return ".".join(map(str, path))


def _path(loc: tuple[str | int, ...], value: Any, *, missing: bool) -> Key:
    """pydantic's place without the steps that are not in the recipe (names of union members, "[key]")."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        if isinstance(value, dict) and part in value:
            value = value[str(part)]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        elif not (missing and index == len(loc) - 1):
            continue
        path.append(part)
    return tuple(path)


def _unknown(path: Key, tree: Tree) -> RecipeError:
    section, key = path[:-1], str(path[-1])
    place = f" in {_dotted(section)}" if section else ""
    return RecipeError(
        f"unknown key {key!r}{place}", where=tree.locate(path, name=True), do=hint(pattern(section) or "", key)
    )


def _missing(path: Key, tree: Tree) -> RecipeError:
    section, key = path[:-1], str(path[-1])
    owner = _dotted(section) if section else "the recipe"
    where = tree.locate(section, name=True)
    examples = {
        "base_model": "base_model: builtin:sprout",
        "data": "data:",
        "datasets": "datasets: [{path: rows.jsonl}]",
    }
    return RecipeError(f"{owner} needs the key {key!r}", where=where, do=f"add: {examples.get(key, f'{key}: ...')}")


def _not_among(path: Key, error: Mapping[str, Any], tree: Tree) -> RecipeError:
    """A value, or with "[key]" at the end of pydantic's place a key, that is none of the known words."""
    is_key = error["loc"][-1] == "[key]"
    words = [word.strip("'") for word in error["ctx"]["expected"].replace(" or ", ", ").split(", ")]
    value = error["input"]
    near = _near(value, words)
    if words == ["all-linear"] and not near:
        near_do = f"write all-linear, or a list of module names such as [{value}]"
        return RecipeError(f"{_dotted(path)} cannot be {shown(value)}", where=tree.locate(path), do=near_do)
    do = f"did you mean {near!r}?" if near else f"known: {', '.join(words)}"
    if is_key:
        return RecipeError(f"unknown {_dotted(path[:-1])} {value!r}", where=tree.locate(path, name=True), do=do)
    return RecipeError(f"{_dotted(path)} cannot be {shown(value)}", where=tree.locate(path), do=do)


def _near(value: Any, words: list[str]) -> str | None:
    if not isinstance(value, str):
        return None
    if VALUES.get(value.lower()) in words:
        return VALUES[value.lower()]
    return next(iter(difflib.get_close_matches(value, words, n=1, cutoff=0.6)), None)


def _do(kind: str, path: Key, value: Any) -> str | None:
    if kind == "bool_type" and isinstance(value, str) and value.lower() in _YAML_1_1:
        return f"write {_YAML_1_1[value.lower()]}"
    if kind in ("int_type", "float_type") and isinstance(value, str) and _is_number(value):
        return "remove the quotes"
    if kind == "string_type" and isinstance(value, int | float | bool):
        return "put it in quotes"
    if (kind == "list_type" or path in _FORMS) and isinstance(value, str):
        return f"write it as [{value}]"
    if kind == "list_type" and isinstance(value, dict):
        return "begin each entry with '- '"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
