"""Every key of the schema is known to the hints, and every alias leads to a key that exists."""

from __future__ import annotations

import pytest

from edgeft.recipe.judging import Suite
from edgeft.recipe.keys import ALIASES, every_key, hint, pattern, sections
from edgeft.recipe.names import VALUES
from edgeft.recipe.schema import Phase, Recipe


def test_sections_are_found_by_looking_at_the_models() -> None:
    assert sections()[""] is Recipe
    assert sections()["train"] is Phase
    assert sections()["eval.suites.*"] is Suite


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_lead_to_a_key_or_are_advice(alias: str) -> None:
    target = ALIASES[alias]
    assert " " in target or target in every_key()
    assert alias not in every_key(), "it is a key itself: no alias is needed"


def test_every_key_is_described() -> None:
    assert [key for key, text in every_key().items() if not text] == []


def test_values_of_other_tools_lead_to_known_values() -> None:
    text = str([field.annotation for model in sections().values() for field in model.model_fields.values()])
    text += str(Recipe.model_json_schema())
    assert [value for value in VALUES.values() if value not in text] == []


@pytest.mark.parametrize(
    ("section", "key", "wanted"),
    [
        ("train", "lr", "did you mean 'learning_rate'?"),
        ("", "lr", "did you mean 'learning_rate', in the section train"),
        ("", "lora_r", "it belongs in the section train"),
        ("train", "seed", "it belongs at the top of the recipe"),
        ("data", "path", "it belongs in an entry of data.datasets"),
        ("train", "lora_alpa", "did you mean 'lora_alpha'?"),
        ("data", "Cutoff-Len", "did you mean 'sequence_len'?"),
        ("train", "load_in_4bit", "write adapter: qlora in the section train"),
        ("merge", "xyz", "known here: write, merge_base"),
    ],
)
def test_hints(section: str, key: str, wanted: str) -> None:
    assert hint(section, key) == wanted


def test_patterns() -> None:
    assert pattern(("data", "datasets", 3)) == "data.datasets.*"
    assert pattern(("eval", "suites", "mine")) == "eval.suites.*"
    assert pattern(()) == ""
    assert pattern(("nowhere",)) is None
