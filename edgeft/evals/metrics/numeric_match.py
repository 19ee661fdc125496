"""Whether the number that an answer ends with is the expected one: for sums and measurements explained in words."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?")
_TOLERANCE = Decimal("1e-9")  # relative


def score(expected: str, answer: str) -> float:
    """1.0 when the last number of both texts is the same value (1,000 is 1000 is 1e3). A ValueError when the expected
    answer has no number."""
    wanted = last_number(expected)
    if wanted is None:
        raise ValueError(f"numeric_match: there is no number in the expected answer {expected[:80]!r}")
    given = last_number(answer)
    return float(given is not None and abs(given - wanted) <= _TOLERANCE * abs(wanted))


def last_number(text: str) -> Decimal | None:
    for found in reversed([match for match in _NUMBER.findall(text) if any(c.isdigit() for c in match)]):
        try:
            return Decimal(found.replace(",", ""))
        except InvalidOperation:
            continue
    return None
