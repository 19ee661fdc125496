"""The one date that chat templates see, in data, training and runtimes alike.

Llama 3's template writes today's date into the system turn when it has a clock, so the same recipe would give other
tokens tomorrow. Every rendering of ours uses this date instead: Llama 3.2's own default, which its template falls back
to where there is no clock. A device that renders with a clock writes its own day there.
"""

from __future__ import annotations

from datetime import datetime

_TODAY = datetime(2024, 7, 26)


def strftime_now(pattern: str) -> str:
    """Stands for the `strftime_now` that chat templates call: `strftime` of the fixed date."""
    return _TODAY.strftime(pattern)
