"""Fingerprints cover what decides the result and nothing else; differences are told exactly."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel

from edgeft.pipeline.fingerprint import Components, canonical_params, differences, parameter_differences
from tests.pipeline.conftest import Kitchen, why

A, B = "a" * 64, "b" * 64


def make(**changes: Any) -> Components:
    parts: dict[str, Any] = {
        "stage": "train",
        "version": 1,
        "params": {"learning_rate": 0.002, "quantization": {"kind": "nf4"}},
        "inputs": {"data": {"target": "data", "digest": A}},
        "sources": {"base": {"kind": "model", "ref": "builtin:x", "digest": A, "files": {"m.safetensors": A}}},
    }
    return Components(**{**parts, **changes})


class Inner(BaseModel):
    kept: int = 1
    out: int = Field(2, json_schema_extra={"fingerprint": False})


class Names(RootModel[list[str]]):
    pass


class Outer(BaseModel):
    inner: Inner = Inner()
    many: list[Inner] = [Inner()]
    by_name: dict[str, Inner] = {"x": Inner()}
    some: set[str] = set("gfedcba")
    names: Names = Names(["b", "a"])
    out: int = Field(3, json_schema_extra={"fingerprint": False})
    rate: float = 1


def test_marked_fields_are_left_out_at_every_depth_and_sets_have_one_order() -> None:
    assert canonical_params(Outer()) == {
        "inner": {"kept": 1},
        "many": [{"kept": 1}],
        "by_name": {"x": {"kept": 1}},
        "some": list("abcdefg"),
        "names": ["b", "a"],
        "rate": 1.0,
    }


def test_the_order_of_keys_does_not_matter() -> None:
    params = {"x": 1, "y": {"p": 1, "q": 2}}
    turned = {"y": {"q": 2, "p": 1}, "x": 1}
    assert make(params=params).fingerprint() == make(params=turned).fingerprint()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 2}, "the train stage's code changed (version 1 → 2)"),
        ({"stage": "tune"}, "the train stage became the tune stage"),
        ({"params": {"learning_rate": 0.0001, "quantization": {"kind": "nf4"}}}, "learning_rate 0.002 → 0.0001"),
        ({"params": {"learning_rate": 0.002, "quantization": {"kind": "fp4"}}}, "quantization.kind nf4 → fp4"),
        ({"params": {"learning_rate": 0.002, "quantization": None}}, "quantization.kind nf4 → unset"),
        ({"inputs": {"data": {"target": "data", "digest": B}}}, "input data changed"),
        ({"inputs": {"data": {"target": "data2", "digest": B}}}, "input data → data2"),
        ({"inputs": {}}, "input data is gone"),
        (
            {"sources": {"base": {"kind": "model", "ref": "builtin:x", "digest": B, "files": {"m.safetensors": B}}}},
            "base model builtin:x changed (m.safetensors changed)",
        ),
        (
            {"sources": {"base": {"kind": "model", "ref": "org/y", "digest": B}}},
            "base model builtin:x → org/y",
        ),
        ({"sources": {}}, "base model builtin:x is gone"),
    ],
)
def test_each_difference_changes_the_fingerprint_and_is_told(change: dict[str, Any], text: str) -> None:
    assert make(**change).fingerprint() != make().fingerprint()
    assert text in [str(reason) for reason in differences(make(), make(**change))]


def test_what_does_not_matter_changes_nothing() -> None:
    moved = {"base": {"kind": "model", "ref": "./elsewhere", "digest": A, "files": {}}}
    renamed = {"data": {"target": "data.first", "digest": A}}
    same = make(sources=moved, inputs=renamed)
    assert same.fingerprint() == make().fingerprint()
    assert differences(make(), same) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
_PARAMS = st.dictionaries(st.text(min_size=1, max_size=4), _JSON, max_size=4)


@given(_PARAMS, _PARAMS)
def test_parameters_that_differ_are_always_told(a: dict[str, Any], b: dict[str, Any]) -> None:
    one, two = make(params=a), make(params=b)
    if one.fingerprint() != two.fingerprint():
        assert parameter_differences(a, b)


@given(_PARAMS, st.randoms(use_true_random=False))
def test_nothing_is_told_of_equal_parameters(a: dict[str, Any], shuffle: random.Random) -> None:
    items = list(a.items())
    shuffle.shuffle(items)
    assert parameter_differences(a, dict(items)) == []


def test_components_survive_json() -> None:
    assert Components.from_json(make().as_json()) == make()


def test_a_plan_names_the_setting_that_changed(kitchen: Kitchen) -> None:
    kitchen.run()
    planned = kitchen.plan(train={"learning_rate": 0.0001})
    assert why(planned["train"]) == ["learning_rate 0.002 → 0.0001"]
    assert why(planned["gate"]) == ["input train will be rebuilt"]
    assert not planned["data"].will_run
    assert [name for name, each in planned.items() if each.will_run] == [name for name in planned if name != "data"]


def test_a_plan_names_the_file_that_changed(kitchen: Kitchen) -> None:
    kitchen.run()
    (kitchen.root / "rows.jsonl").write_text("three\n")
    assert why(kitchen.plan()["data"]) == ["file rows.jsonl changed"]
    (kitchen.root / "base" / "model.safetensors").write_bytes(b"other weights")
    (kitchen.root / "base" / "README.md").write_text("not part of it")
    assert why(kitchen.plan()["train"]) == [
        "base model ./base changed (model.safetensors changed)",
        "input data will be rebuilt",
    ]


def test_a_plan_names_a_new_version_of_a_stage(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.pipeline import toy

    kitchen.run()
    monkeypatch.setattr(toy.Train, "VERSION", 2)
    assert why(kitchen.plan()["train"]) == ["the train stage's code changed (version 1 → 2)"]
