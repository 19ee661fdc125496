"""The tables of docs/recipes.md: `python -m tests.recipe.documented` writes them, test_docs.py compares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from edgeft.recipe import Recipe
from edgeft.recipe.keys import sections

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
BEGIN, END = "<!-- keys: written from the schema -->", "<!-- end of keys -->"
TITLES = {
    "": "The top of a recipe",
    "data": "`data:`",
    "data.datasets.*": "An entry of `data.datasets`, `data.validation`, `data.test`",
    "data.checks": "`data.checks:`",
    "train": "`train:`",
    "train.rewards.*": "A reward below `train.rewards`",
    "merge": "`merge:`",
    "eval": "`eval:`",
    "eval.suites.*": "A suite below `eval.suites`",
    "gate": "`gate:`",
    "export.*": "Options of an export",
    "verify": "`verify:`",
    "report": "`report:`",
}
SAME = ("data.validation.*", "data.test.*")  # as data.datasets.*
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def type_words(annotation: Any) -> str:
    """A field's type as a person would say it."""
    if annotation in WORDS:
        return WORDS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"one of {', '.join(f'`{value}`' for value in arguments)}"
    if origin in (Union, UnionType):
        return " or ".join(type_words(inner) for inner in arguments if inner is not NoneType)
    if origin is list:
        return f"list of {plural(type_words(arguments[0]))}"
    if origin is dict:
        return f"mapping of names to {plural(type_words(arguments[1]))}"
    return type_words(arguments[0])  # Annotated


def plural(words: str) -> str:
    return {"section": "sections", "text": "texts", "number": "numbers"}.get(words, words)


def range_words(info: FieldInfo) -> str:
    """ ", at least 1": the bounds of a number."""
    found = [
        *info.metadata,
        *[part for inner in get_args(info.annotation) for part in getattr(inner, "__metadata__", ())],
    ]
    flat = [part for entry in found for part in getattr(entry, "metadata", [entry])]
    words = []
    for kind, name, key in (
        (annotated_types.Gt, "more than", "gt"),
        (annotated_types.Ge, "at least", "ge"),
        (annotated_types.Lt, "less than", "lt"),
        (annotated_types.Le, "at most", "le"),
    ):
        words += [f"{name} {getattr(part, key):g}" for part in flat if isinstance(part, kind)]
    return "".join(f", {word}" for word in words)


def default_words(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    default = info.get_default(call_default_factory=True)
    if default is None or isinstance(default, BaseModel) or default in ([], {}):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, list):
        return f"`[{', '.join(default)}]`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def table(model: type[BaseModel]) -> Iterator[str]:
    yield "| key | type | default | |"
    yield "|---|---|---|---|"
    for name, info in model.model_fields.items():
        if name == "earlier_phases":  # filled from a list in `train:`
            continue
        kind = "a list of names, or names with options" if name == "export" else type_words(info.annotation)
        yield f"| `{name}` | {kind}{range_words(info)} | {default_words(info)} | {info.description} |"


def keys() -> str:
    """Everything between the marks."""
    lines: list[str] = []
    for place, model in sections().items():
        if place not in SAME and not place.startswith(("earlier_phases", "train.data")):
            lines += [f"### {TITLES[place]}", "", *table(model), ""]
    return "\n".join([BEGIN, "", *lines, END])


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(before + keys() + rest.partition(END)[2], encoding="utf-8")


assert Recipe in sections().values()

if __name__ == "__main__":
    main()
