from __future__ import annotations

from edgeft.report import charts


def test_bars_are_shares_of_the_width() -> None:
    assert charts.bar({"value": 0.5, "low": 0.25, "high": 1.2}, 1.0) == {
        "value": 50,
        "low": 25,
        "high": 100,
        "width": 75,
    }
    assert charts.bar({"value": 0.5, "low": None, "high": None}, 1.0) == {
        "value": 50,
        "low": 50,
        "high": 50,
        "width": 0,
    }
    assert charts.bar(None, 1.0) is None
