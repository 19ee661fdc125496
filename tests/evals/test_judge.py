"""The judge, against a server of ours with OpenAI's chat interface."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from edgeft.errors import InputError, MissingError
from edgeft.evals import metrics, suites
from edgeft.evals.evaluate import evaluate
from tests.evals.fakes import FakeRuntime, conversation


class Server:
    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, Any], str | None]] = []
        self.says, self.status = "7 of 10", 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.heard.append((body, self.headers.get("Authorization")))
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(json.dumps({"choices": [{"message": {"content": outer.says}}]}).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def asked(server: Server, **judge: Any) -> list[dict[str, Any]]:
    settings = {"judge": {"base_url": server.url, "model": "m", **judge}}
    suite = suites.from_rows("s", [conversation("why?", "so", "1")], metrics=["judge"], settings=settings)
    return evaluate(FakeRuntime({"why?": "thus"}), [suite]).rows


def test_the_judges_prompt_and_answer_are_kept_and_the_key_is_not(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-key")
    (row,) = asked(server, prompt="{question}|{expected}|{answer}", scale=10, api_key_env="MY_KEY", max_tokens=9)
    assert row["scores"] == {"judge": 0.7}
    assert row["notes"] == {"judge.prompt": "why?|so|thus", "judge.answer": "7 of 10"}
    ((body, key),) = server.heard
    assert key == "Bearer secret-key"
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 9, 0)
    assert body["messages"] == [{"role": "user", "content": "why?|so|thus"}]
    assert "secret-key" not in json.dumps(row)


def test_what_can_go_wrong_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(MissingError, match="MY_KEY"):
        asked(server, api_key_env="MY_KEY")
    server.status = 401
    with pytest.raises(InputError, match="refused"):
        asked(server)
    server.status, server.says = 200, "no idea"
    assert asked(server)[0]["scores"] == {"judge": 0.0}
    with pytest.raises(InputError, match="needs a judge"):
        metrics.check("judge", "generation", {}, "s")
