from __future__ import annotations

from edgeft.report import marked


def test_what_differs_is_marked() -> None:
    found = marked.pieces('{"room": "attic"}', '{"room": "hall"}')
    assert [text for text, differs in found["shown"] if differs] == ["attic"]
    assert "".join(text for text, _ in found["shown"]) == '{"room": "attic"}'


def test_nothing_in_common_or_nothing_expected_is_left_alone() -> None:
    assert marked.pieces("end", "out")["shown"] == [("end", False)]
    assert marked.pieces("end", None)["shown"] == [("end", False)]
    assert marked.pieces("end", "end")["shown"] == [("end", False)]


def test_long_answers_are_folded_whole() -> None:
    text = "word " * 2000
    found = marked.pieces(text, "word")
    assert "".join(piece for piece, _ in found["shown"]) + found["rest"] == text
    assert len(found["rest"]) == len(text) - marked.FOLD
