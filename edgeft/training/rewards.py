"""What an answer of `objective: grpo` is rewarded for: exact match, a pattern, JSON of a schema, or a user's own file.

A Python file runs with all rights of the process: only when the recipe says `allow_code: true` beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import InputError

Prompt = list[dict[str, Any]]
Judge = Callable[[Prompt, str, Any], float]


@dataclass(frozen=True)
class Rewards:
    """The weighted sum of several judges."""

    judges: tuple[tuple[float, Judge], ...]

    @classmethod
    def of(cls, rewards: Sequence[Mapping[str, Any]], files: Mapping[str, Path]) -> Rewards:
        """`rewards` as the recipe lists them; `files` "rewards.N": what the N-th one's path is."""
        if not rewards:
            raise InputError("grpo needs rewards", do="write rewards: [{type: exact_match}] under train:")
        return cls(
            tuple(
                (float(reward["weight"]), _JUDGES[reward["type"]](reward, files.get(f"rewards.{index}")))
                for index, reward in enumerate(rewards)
            )
        )

    def __call__(self, prompt: Prompt, answer: str, reference: Any) -> float:
        return sum(weight * judge(prompt, answer, reference) for weight, judge in self.judges)


def _exact_match(_: Mapping[str, Any], __: Path | None) -> Judge:
    def judge(prompt: Prompt, answer: str, reference: Any) -> float:
        """1 when the answer is the row's `answer`, apart from blanks around it; one that is no text is JSON."""
        if isinstance(reference, Mapping):  # a row's fields besides its prompt
            if "answer" not in reference:
                raise InputError(
                    f"exact_match compares with a row's answer, and there is a row with {_listed(reference)} only",
                    do="name the field that holds it under the dataset: fields: {answer: NAME}",
                )
            reference = reference["answer"]
        wanted = reference if isinstance(reference, str) else json.dumps(reference, ensure_ascii=False)
        return float(answer.strip() == wanted.strip())

    return judge


def _listed(reference: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, reference)) or "a prompt"


def _regex(reward: Mapping[str, Any], _: Path | None) -> Judge:
    pattern = re.compile(reward["pattern"])
    return lambda prompt, answer, reference: float(pattern.search(answer) is not None)


def _json_schema(_: Mapping[str, Any], path: Path | None) -> Judge:
    import jsonschema

    assert path is not None
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except (ValueError, jsonschema.SchemaError) as error:
        raise InputError(f"not a JSON schema ({str(error).splitlines()[0]})", where=path) from None
    validator = jsonschema.validators.validator_for(schema)(schema)

    def judge(prompt: Prompt, answer: str, reference: Any) -> float:
        try:
            value = json.loads(answer)
        except ValueError:
            return 0.0
        return float(validator.is_valid(value))

    return judge


def _python(reward: Mapping[str, Any], path: Path | None) -> Judge:
    """A file with `reward(prompt, answer, reference) -> float`."""
    import importlib.util
    import math

    assert path is not None
    if not reward.get("allow_code"):
        raise InputError("code of a reward file is not allowed to run", where=path, do="write allow_code: true")
    spec = importlib.util.spec_from_file_location("edgeft_user_reward", path)
    if spec is None or spec.loader is None:
        raise InputError("this is no Python file", where=path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code
        raise InputError(f"the reward file cannot be loaded ({type(error).__name__}: {error})", where=path) from error
    asked = getattr(module, "reward", None)
    if not callable(asked):
        raise InputError("the reward file has no function reward(prompt, answer, reference)", where=path)

    def judge(prompt: Prompt, answer: str, reference: Any) -> float:
        try:
            value = float(asked(prompt, answer, reference))
        except Exception as error:  # the user's own code
            raise InputError(f"the reward failed ({type(error).__name__}: {error})", where=path) from error
        if not math.isfinite(value):
            raise InputError(f"the reward gave {value}", where=path)
        return value

    return judge


_JUDGES: dict[str, Callable[[Mapping[str, Any], Path | None], Judge]] = {
    "exact_match": _exact_match,
    "regex": _regex,
    "json_schema": _json_schema,
    "python": _python,
}
