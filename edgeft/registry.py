"""Tables of what can be plugged in: a name, where it lives, one line of help. Loading happens on use, not on listing.

Imports of ours stand inside functions: `edgeft --help` needs the tables and nothing else.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One entry: `target` is "package.module:attribute" or "package.module"; `extra` is checked before it is loaded."""

    target: str
    help: str
    extra: str | None = None

    def load(self) -> Any:
        if self.extra:
            from edgeft import extras

            extras.require(self.extra)
        module, _, attribute = self.target.partition(":")
        loaded = importlib.import_module(module)
        return getattr(loaded, attribute) if attribute else loaded


Table = Mapping[str, Row]


def lookup(table: Table, name: str, what: str) -> Row:
    """The row of a name, or an `InputError` that lists what there is and the nearest name."""
    if name not in table:
        from edgeft.errors import InputError

        raise InputError(f"unknown {what} {name!r}", do=suggestion(name, table))
    return table[name]


def suggestion(name: str, known: Iterable[str]) -> str:
    """ "did you mean …?" when one is near, else the whole list."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
