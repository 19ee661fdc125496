"""`edgeft chat`: one question, a conversation, JSON; and what a model says cannot steer the terminal."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import edgeft.runtimes
from edgeft.cli.main import main
from edgeft.errors import ModelError
from edgeft.runtimes.protocol import Completion, Message

Captured = pytest.CaptureFixture[str]


class Parrot:
    """A runtime that answers with what it was shown; characters are tokens."""

    name = "parrot"
    vocab_size = 0x110000
    context_length = 200
    stop_ids = (0,)

    def __init__(self, answer: Callable[[str], str] = lambda seen: f"you said {seen!r}") -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.closed = False

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        assert add_generation_prompt
        return "|".join(f"{message['role']}:{message['content']}" for message in messages)

    def generate(self, prompts: Sequence[Sequence[int]], **settings: Any) -> list[Completion]:
        (prompt,) = prompts
        seen = "".join(map(chr, prompt))
        if len(seen) > self.context_length:
            raise ModelError("the conversation does not fit")
        self.asked.append({"seen": seen, **settings})
        text = self.answer(seen)
        cut = text[: settings["max_tokens"]]
        if settings["on_token"] is not None:
            for character in cut:
                settings["on_token"](character)
        return [Completion(tuple(map(ord, cut)), cut, stopped=cut == text)]

    def __enter__(self) -> Parrot:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> Parrot:
    runtime = Parrot(lambda seen: seen.rpartition(":")[2].upper())
    monkeypatch.setattr(edgeft.runtimes, "open_runtime", lambda reference, base=None: runtime)
    return runtime


def test_one_question(parrot: Parrot, capsys: Captured) -> None:
    assert main(["chat", "x", "--prompt", "hello", "--system", "be brief"]) == 0
    assert capsys.readouterr().out == "HELLO\n"
    assert parrot.asked[0]["seen"] == "system:be brief|user:hello"
    assert parrot.closed


def test_settings_reach_the_runtime(parrot: Parrot, capsys: Captured) -> None:
    assert main(["chat", "x", "--prompt", "hello", "--max-tokens", "3", "--temperature", "0.7", "--seed", "5"]) == 0
    assert capsys.readouterr().out == "HEL … (cut after 3 tokens; --max-tokens)\n"
    asked = parrot.asked[0]
    assert (asked["max_tokens"], asked["temperature"], asked["seed"]) == (3, 0.7, 5)


def test_json(parrot: Parrot, capsys: Captured) -> None:
    assert main(["chat", "x", "--prompt", "hi", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["runtime"], told["answer"], told["stopped"], told["tokens"]) == ("parrot", "HI", True, 2)
    assert main(["chat", "x", "--json"]) == 2


def test_a_model_cannot_steer_the_terminal(parrot: Parrot, capsys: Captured) -> None:
    parrot.answer = lambda seen: "a\x1b]0;title\x07\x1b[2J\rb\nc\u202e"
    main(["chat", "x", "--prompt", "hi"])
    assert capsys.readouterr().out == "a\\x1b]0;title\\x07\\x1b[2J\\x0db\nc\\u202e\n"


def test_a_conversation_remembers_and_can_be_reset(
    parrot: Parrot, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\ntwo\n/reset\nthree\n/exit\nfour\n"))
    assert main(["chat", "x"]) == 0
    assert capsys.readouterr().out == "ONE\nTWO\nTHREE\n"
    assert [asked["seen"] for asked in parrot.asked] == [
        "user:one", "user:one|assistant:ONE|user:two", "user:three",
    ]  # fmt: skip


def test_what_does_not_fit_is_told_and_the_conversation_goes_on(
    parrot: Parrot, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{'x' * 300}\nhi\n"))
    assert main(["chat", "x"]) == 0
    out, err = capsys.readouterr()
    assert out == "HI\n"
    assert err == "the conversation does not fit\n  /reset starts a new conversation\n"


def test_the_prompt_can_come_from_stdin(parrot: Parrot, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\nb"))
    assert main(["chat", "x", "--prompt", "-"]) == 0
    assert capsys.readouterr().out == "A\nB\n"


def test_what_cannot_be_opened(tmp_path: Path, capsys: Captured) -> None:
    assert main(["chat", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path}/nothing: ")


def test_a_real_base_and_adapter_answer(tiny_llama: Path, tiny_adapter: Path, capsys: Captured) -> None:
    answers = []
    for arguments in ([str(tiny_llama)], [str(tiny_adapter), "--base", str(tiny_llama)]):
        assert main(["chat", *arguments, "--prompt", "Turn the light on.", "--max-tokens", "8", "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert all(1 <= answer["tokens"] <= 8 for answer in answers)
    assert answers[0]["answer"] != answers[1]["answer"]
