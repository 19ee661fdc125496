"""The judge behind a real model: a GGUF of the packaged base, served by llama-cpp-python's own chat completion.

llama-cpp-python's server is a thin layer over `Llama.create_chat_completion`, whose answers already have the form of
OpenAI's interface; a few lines of HTTP stand in for it here, so that no web framework has to be installed.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from edgeft.evals import scores, suites
from edgeft.evals.evaluate import evaluate
from tests.evals.fakes import FakeRuntime, conversation

pytestmark = pytest.mark.slow

PROMPT = "What is {answer} plus 0? The right answer is {expected}."


@dataclass
class Served:
    """Where the model is served, and what it was asked and said."""

    url: str
    llama: Any
    said: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from llama_cpp import Llama

    from edgeft.exporters import ExportSource
    from edgeft.exporters.gguf.export import export
    from edgeft.models.base import resolve

    folder = tmp_path_factory.mktemp("judge")
    made = export(ExportSource(Path(resolve("builtin:sprout")), name="sprout"), "f16", folder, {})
    llama = Llama(str(folder / made.facts["file"]), n_ctx=512, n_threads=1, verbose=False)
    found = Served("", llama)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = {key: body[key] for key in ("messages", "temperature", "max_tokens")}
            answer = llama.create_chat_completion(**known) if self.path == "/v1/chat/completions" else {}
            found.said.append((body, answer))
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    found.url = f"http://127.0.0.1:{http.server_port}/v1"
    yield found
    http.shutdown()
    http.server_close()
    llama.close()


def test_a_served_gguf_judges_and_what_it_said_is_kept(served: Served, tmp_path: Path) -> None:
    judge = {"base_url": served.url, "model": "sprout", "prompt": PROMPT, "scale": 10, "max_tokens": 24}
    rows = [conversation(f"number {n}", str(n), str(n)) for n in (2, 7)]
    suite = suites.from_rows("s", rows, metrics=["judge"], settings={"judge": judge})
    answered = evaluate(FakeRuntime({"number 2": "2", "number 7": "9"}), [suite]).rows
    scores.write_rows(tmp_path / scores.ROWS, answered)
    kept = scores.read_rows(tmp_path / scores.ROWS)
    asked = ["What is 2 plus 0? The right answer is 2.", "What is 9 plus 0? The right answer is 7."]
    assert [row["notes"]["judge.prompt"] for row in kept] == asked
    assert [body["messages"] for body, _ in served.said] == [[{"role": "user", "content": text}] for text in asked]
    for row, (body, _) in zip(kept, served.said, strict=True):
        again = served.llama.create_chat_completion(body["messages"], temperature=0, max_tokens=24)
        said = again["choices"][0]["message"]["content"]
        assert row["notes"]["judge.answer"] == said
        number = re.search(r"\d+(?:\.\d+)?", said)
        assert row["scores"]["judge"] == (min(1.0, float(number[0]) / 10) if number else 0.0)
    assert any(row["notes"]["judge.answer"].strip() for row in kept), "the model says something"
