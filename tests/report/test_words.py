from __future__ import annotations

import pytest

from edgeft.report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0 %"), (1.0, "100 %"), (0.9999, "99.9 %"), (0.123, "12.3 %"), (0.99949, "99.9 %")],
)
def test_percent_never_rounds_up_to_all(value: float | None, text: str) -> None:
    assert words.percent(value) == text


def test_figures_by_kind() -> None:
    assert words.figure("loss", 1.23456) == "1.235"
    assert words.figure("exact_match", 0.5) == "50.0 %"
    assert words.change("loss", -0.5) == "-0.500"
    assert words.change("exact_match", 0.025) == "+2.5 pt"
    assert words.interval("exact_match", {"low": 0.1, "high": 0.2}) == "10.0 to 20.0 %"
    assert words.interval("exact_match", {"low": -0.1, "high": -0.00001}) == "-10.0 to 0.0 %"
    assert words.figure("length", 41.25) == "41.25"
    assert words.change("length", -12.5) == "-12.500"
    assert words.interval("length", {"low": 39.0, "high": 44.5}) == "39.000 to 44.500"
    assert words.is_share("f1", {"value": 0.5}, None)
    assert not words.is_share("length", {"value": 12.0})
    assert words.interval("exact_match", {"low": None, "high": None}) == ""
    assert words.small(0.000123456) == "0.00012"
    assert words.count(1, "row") == "1 row"
    assert words.count(1200, "row") == "1,200 rows"


def test_control_characters_become_pictures() -> None:
    assert words.visible("a\x1b[31m\x00b\n\tc\x7f") == "a␛[31m␀b\n\tc␡"
