"""What a long piece of work says while it runs. Domain packages call a `Listener`; only `edgeft.cli` draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """`done` of `total` in `unit` ("step", "row", "B"); `values` are shown beside the bar ("loss": "0.123")."""

    done: float
    total: float | None = None
    unit: str = ""
    what: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


Listener = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """A listener that says nothing."""
