"""The text that a model is given for a question: system prompt, answered examples, the question. Used by `evaluate`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from edgeft.evals.questions import Case, said
from edgeft.evals.suites import Suite
from edgeft.runtimes.protocol import Message, Runtime


def messages_of(suite: Suite) -> Callable[[Case], list[Message]]:
    """case -> the turns before its answer, examples and system prompt included.

    Every row sees the same examples in the same order, so that runtimes read them once; only a row that is among them
    gets one more in its own place.
    """
    asking = suite.asking
    pool = asking.shots or suite.cases
    order = list(range(len(pool)))
    random.Random(asking.seed).shuffle(order)
    drawn = [pool[i] for i in order[: asking.few_shot + 1]]

    def build(case: Case) -> list[Message]:
        examples = [shot for shot in drawn if asking.shots or shot.id != case.id][: asking.few_shot]
        turns = [turn for shot in examples for turn in _without_system([*shot.messages, shot.turn])]
        own = list(case.messages)
        system = [turn for turn in own if turn["role"] == "system"]
        if not system and asking.system is not None:
            system = [{"role": "system", "content": asking.system}]
        return [*system, *turns, *_without_system(own)]

    return build


def _without_system(turns: Sequence[Message]) -> list[Message]:
    return [turn for turn in turns if turn["role"] != "system"]


def rendered(
    runtime: Runtime,
    suite: Suite,
    messages: Sequence[Message],
    answer: Message | str | None,
    tools: Sequence[Any] = (),
) -> str:
    """The prompt as text, or (with an `answer`) prompt and answer; `tools` that the model may call. Without a chat
    template: each turn a line, an empty line behind each answer."""
    if isinstance(answer, str):
        answer = said(answer)
    if suite.asking.chat:
        turns = list(messages) if answer is None else [*messages, answer]
        return runtime.render(turns, add_generation_prompt=answer is None, tools=tools)
    text = "".join(turn["content"] + ("\n\n" if turn["role"] == "assistant" else "\n") for turn in messages)
    return text if answer is None else text + answer["content"]
