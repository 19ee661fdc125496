"""YAML 1.2 to plain values with places; what is refused is in tests/golden/recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from edgeft.errors import EdgeftError, Location, RecipeError
from edgeft.recipe.tree import MAX_BYTES, MAX_NODES, read_file, read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("2E+4", 2e4),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("+3", 3),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("1_000", "1_000"),
        ("yes", "yes"),
        ("off", "off"),
        ("True", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("2001-01-01", "2001-01-01"),
        ("1:30", "1:30"),
        ("'7'", "7"),
        ('"a\\tb"', "a\tb"),
        ("Null", None),
        ("nil", "nil"),
        ("1e", "1e"),
        ("[a, [b, 1]]", ["a", ["b", 1]]),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_values(text: str, value: Any) -> None:
    found = read_text(f"k: {text}\n", "r.yaml").value["k"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number() -> None:
    found = read_text("k: .nan", "r.yaml").value["k"]
    assert found != found


def test_places() -> None:
    tree = read_text("a: 1\nb:\n  - c: x\n    d: [1, 'y']\n", "r.yaml")
    assert tree.values[("b", 0, "d", 1)] == Location("r.yaml", 4, 12)
    assert tree.keys[("b", 0, "d")] == Location("r.yaml", 4, 5)
    assert tree.locate(("b", 0, "nothing", "here")) == Location("r.yaml", 3, 5)
    assert tree.locate(("b", 0, "d"), name=True) == Location("r.yaml", 4, 5)
    assert tree.quoted == {("b", 0, "d", 1)}


def test_aliases_are_copies_with_the_alias_as_their_place() -> None:
    tree = read_text("a: &x {k: 1}\nb: *x\n", "r.yaml")
    assert tree.value == {"a": {"k": 1}, "b": {"k": 1}}
    assert tree.value["a"] is not tree.value["b"]
    assert tree.values[("b",)] == Location("r.yaml", 2, 4)


def test_the_limit_of_aliases_is_of_values_not_of_levels() -> None:
    items = ", ".join(["1"] * 99)
    allowed = (MAX_NODES - 200) // 100
    text = f"a: &a [{items}]\nb: [{', '.join(['*a'] * allowed)}]\n"
    assert len(read_text(text, "r.yaml").value["b"]) == allowed
    with pytest.raises(RecipeError, match="aliases expand"):
        read_text(f"a: &a [{items}]\nb: [{', '.join(['*a'] * (allowed + 4))}]\n", "r.yaml")


plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**20), 10**20),
        st.floats(allow_nan=False),
        st.text(
            st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff"), max_size=12
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(plain)
def test_what_ruamel_writes_is_read_back(value: Any) -> None:
    """Oracle: ruamel.yaml's own emitter and its own safe loader of YAML 1.2."""
    from io import StringIO

    stream = StringIO()
    YAML(typ="safe", pure=True).dump({"k": value}, stream)
    text = stream.getvalue()
    assert read_text(text, "r.yaml").value == YAML(typ="safe", pure=True).load(text)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    told = "r.yaml"
    try:
        read_text(text, "r.yaml")
    except EdgeftError as error:
        told = str(error)
    assert told.startswith("r.yaml")


@given(st.text(alphabet=" \n\t-:[]{}&*!|>'\"%@`,?#ab1.<~e", max_size=40))
def test_any_yaml_like_text_is_read_or_refused_with_a_place(text: str) -> None:
    told = "r.yaml"
    try:
        read_text(text, "r.yaml")
    except EdgeftError as error:
        told = str(error)
    assert told.startswith("r.yaml")


def test_files(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        read_file(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        read_file(tmp_path)
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(RecipeError, match="larger than 1 MiB"):
        read_file(big)
    marked = tmp_path / "marked.yaml"
    marked.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_file(marked).value == {"a": 1, "b": 2}
