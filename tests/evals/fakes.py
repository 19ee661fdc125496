"""A runtime without a model: ChatML over UTF-8 bytes, answers from a table, logits from a fixed random table. What a
test wants broken is broken by a keyword."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgeft.errors import ModelError
from edgeft.runtimes.protocol import Completion, Message
from edgeft.runtimes.scoring import likelihood

SPECIALS = {"<|im_start|>": 256, "<|im_end|>": 257}
END = 257
VOCABULARY = 258


def chatml(messages: Sequence[Message], add_generation_prompt: bool) -> str:
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}{_calls(m)}<|im_end|>\n" for m in messages)
    return text + ("<|im_start|>assistant\n" if add_generation_prompt else "")


def _calls(message: Message) -> str:
    return "".join(f"<call>{json.dumps(call['function'])}" for call in message.get("tool_calls") or ())


def byte_ids(text: str) -> list[int]:
    ids: list[int] = []
    for part in re.split(r"(<\|im_start\|>|<\|im_end\|>)", text):
        ids += [SPECIALS[part]] if part in SPECIALS else list(part.encode())
    return ids


class FakeRuntime:
    """`answers` maps the last user message to the answer; what is not in it is answered with `default`."""

    context_length = 4096

    def __init__(
        self,
        answers: Mapping[str, str] | None = None,
        *,
        name: str = "fake",
        default: str = "no",
        encode: Callable[[str], list[int]] = byte_ids,
        render: Callable[[Sequence[Message], bool], str] = chatml,
        stop_ids: tuple[int, ...] = (END,),
        vocab_size: int = VOCABULARY,
        noise: float = 0.0,
        stops: bool = True,
        refuses: str | None = None,
        skill: float = 0.0,
    ) -> None:
        self.name, self.stop_ids, self.vocab_size = name, stop_ids, vocab_size
        self._answers, self._default = dict(answers or {}), default
        self._encode, self._render = encode, render
        self._noise, self._stops, self._refuses, self._skill = noise, stops, refuses, skill
        self.asked: list[list[int]] = []  # lengths of the prompts of each call of generate
        self.closed = False
        self._table = np.random.default_rng(5).normal(size=(VOCABULARY, VOCABULARY)).astype(np.float32)

    def encode(self, text: str) -> list[int]:
        return self._encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(token for token in ids if token < 256).decode()

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, tools: Sequence[Any] = ()
    ) -> str:
        offered = f"<|im_start|>tools\n{json.dumps(list(tools))}<|im_end|>\n" if tools else ""
        return offered + self._render(messages, add_generation_prompt)

    def logits(self, ids: Sequence[int]) -> Any:
        if self._refuses:
            raise ModelError(self._refuses)
        rows = np.cumsum(self._table[list(ids)], axis=0)[:, :VOCABULARY] / np.sqrt(np.arange(1, len(ids) + 1))[:, None]
        rows[np.arange(len(ids) - 1), list(ids[1:])] += self._skill
        if self._noise:
            rows = rows + np.random.default_rng(len(ids)).normal(size=rows.shape) * self._noise
        padded = np.full((len(ids), self.vocab_size), -20.0, dtype=np.float32)
        padded[:, :VOCABULARY] = rows
        return padded

    def logits_batch(self, rows: Sequence[Sequence[int]]) -> Iterator[Any]:
        return (self.logits(row) for row in rows)

    prefix_id: int | None = END
    batch_tokens = 4096
    begins: tuple[int, ...] = ()

    def loglikelihoods(self, requests: Sequence[Any], *, on_done: Any = None) -> list[Any]:
        found = []
        for prefix, rest in requests:
            logits = self.logits([*prefix, *rest])[len(prefix) - 1 : -1]
            found.append(likelihood(logits, rest))
            if on_done:
                on_done(1)
        return found

    def generate(self, prompts: Sequence[Sequence[int]], *, max_tokens: int = 128, **_: Any) -> list[Completion]:
        self.asked.append([len(prompt) for prompt in prompts])
        return [self._answer(prompt, max_tokens) for prompt in prompts]

    def _answer(self, prompt: Sequence[int], max_tokens: int) -> Completion:
        text = bytes(i for i in prompt if i < 256).decode()
        question = re.split(r"(?:user|human)\n", text.removesuffix("\nassistant\n"))[-1]
        answer = self._answers.get(question, self._default)
        ids = list(answer.encode())
        stopped = self._stops and len(ids) < max_tokens
        ids = [*ids, END] if stopped else ids[:max_tokens]
        return Completion(tuple(ids), answer if stopped else answer[:max_tokens], stopped)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> FakeRuntime:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def conversation(question: str, answer: str, identity: str, group: str = "") -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": identity, "messages": messages, "group": group}
