"""Chat templates that a recipe may name (`chat_template: chatml`), one Jinja file each, written to the forms that the
model families publish. Called by the `data` stage; the tests of loss masks use them too.

A named template is only right for a base whose tokenizer has its marks as single tokens: the mask refuses it otherwise.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def names() -> list[str]:
    """The templates there are, sorted."""
    return sorted(path.stem for path in _HERE.glob("*.jinja"))


def text_of(name: str) -> str:
    """The template of a name that `names` has."""
    return (_HERE / f"{name}.jinja").read_text(encoding="utf-8")
