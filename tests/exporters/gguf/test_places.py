"""Where the rows and columns of a weight go in a family's file, read from what the family does to it: any family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgeft.errors import ModelError


class Family:
    """A made-up family: a weight that is transposed, one that is cut apart, one that is scaled, …"""

    @staticmethod
    def tensors(config: Any, weights: Any) -> dict[str, Any]:
        return {name: tensor for key in config["made"] for name, tensor in MADE[key](weights).items()}


def derived(base: Any, shape: tuple[int, ...], change: Any) -> Any:
    from edgeft.weights import Deferred

    class Derived(Deferred):
        name, dtype = base.name, base.dtype

        def __init__(self) -> None:
            self.shape = shape

        def chunks(self, rows: Any = None, *, start: int = 0, stop: Any = None) -> Any:
            yield change(base.read())[start:stop]

    return Derived()


def transposed(weight: Any) -> Any:
    return derived(weight, (weight.shape[1], weight.shape[0]), lambda values: values.T)


def first_row_only(values: Any) -> Any:
    return torch.cat([values[:1].flip(1), values[1:]])


def from_the_third(values: Any) -> Any:
    return torch.cat([values[:, :2], values[:, 2:].flip(1)], dim=1)


MADE: dict[str, Any] = {
    "transposed": lambda w: {"t": transposed(w["t"])},
    "cut": lambda w: {
        "k": derived(w["c"], (2, w["c"].shape[1]), lambda values: values[4:]),
        "q": derived(w["c"], (4, w["c"].shape[1]), lambda values: values[:4].flip(0)),
    },
    "scaled": lambda w: {"s": derived(w["c"], tuple(w["c"].shape), lambda values: values * 2)},
    "columns": lambda w: {"s": derived(w["c"], tuple(w["c"].shape), from_the_third)},
    "mixed": lambda w: {"s": derived(w["c"], tuple(w["c"].shape), first_row_only)},
    "added": lambda w: {"s": derived(w["c"], tuple(w["c"].shape), lambda values: values + w["t"].read()[:1, :1])},
}


@pytest.mark.parametrize(
    ("made", "wanted", "found"),
    [
        ("transposed", {"t": True}, {"t": [("t", [0, 1, 2])]}),
        ("cut", {"c": False}, {"c": [("k", [4, 5]), ("q", [3, 2, 1, 0])]}),
        ("scaled", {"c": False}, "rearranged"),
        ("columns", {"c": False}, {"c": [("s", [0, 1, 2, 3, 4, 5])]}),
        ("mixed", {"c": False}, "rearranged"),
        ("added", {"c": False}, "rearranged"),
        ("transposed", {"t": False}, "rearranged"),
        ("cut", {"t": False}, "rearranged"),
    ],
)
def test_places_in_any_family(made: str, wanted: dict[str, bool], found: Any) -> None:
    from edgeft.exporters.gguf.places import places

    weights = {"t": derived_shape("t", (5, 3)), "c": derived_shape("c", (6, 7))}
    if isinstance(found, str):
        with pytest.raises(ModelError, match=found):
            places(Family, {"made": [made]}, weights, wanted)
        return
    got = places(Family, {"made": [made]}, weights, wanted)
    assert {name: [(place.tensor, place.rows) for place in its] for name, its in got.items()} == found
    orders = {place.tensor: place.columns for its in got.values() for place in its}
    moved = {"s": [0, 1, 6, 5, 4, 3, 2]}
    assert orders == {name: moved.get(name, list(range(5 if name == "t" else 7))) for name in orders}


def derived_shape(name: str, shape: tuple[int, ...]) -> Any:
    from edgeft.weights import Deferred

    weight = Deferred()
    weight.name, weight.shape, weight.dtype = name, shape, "BF16"
    return weight
