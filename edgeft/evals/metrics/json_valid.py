"""Whether an answer is JSON, and fits the suite's JSON Schema when there is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any


def make(settings: Mapping[str, Any]) -> Callable[[str, str], float]:
    """The metric for a suite with the JSON Schema `settings["schema"]` (a dictionary), or without one."""
    import jsonschema

    schema = settings.get("schema")
    validator = None
    if schema is not None:
        kind = jsonschema.validators.validator_for(schema)
        kind.check_schema(schema)
        validator = kind(schema)

    def score(expected: str, answer: str) -> float:
        try:
            value = json.loads(answer, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return 0.0
        return float(validator is None or validator.is_valid(value))

    return score


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
