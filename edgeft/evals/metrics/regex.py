"""Whether the suite's regular expression is found in the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from edgeft.errors import InputError


def make(settings: Mapping[str, Any]) -> Callable[[str, str], float]:
    """The metric for a suite with the pattern `settings["pattern"]`; `{expected}` in it stands for the expected answer,
    taken literally."""
    pattern = str(settings["pattern"])
    try:
        re.compile(pattern.replace("{expected}", ""))
    except re.error as error:
        raise InputError(f"{pattern!r} is not a regular expression ({error})") from None

    def score(expected: str, answer: str) -> float:
        found = re.search(pattern.replace("{expected}", re.escape(expected.strip())), answer)
        return float(found is not None)

    return score
