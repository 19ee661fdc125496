"""Another model as judge, behind any endpoint with OpenAI's chat interface (a GGUF served by llama-cpp-python, too).

The key is read from an environment variable when a row is judged and is written nowhere. The judge's prompt and answer
are kept in the row's notes.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from edgeft.errors import InputError, MissingError, StorageError

PROMPT = """\
Question:
{question}

Reference answer:
{expected}

Answer to judge:
{answer}

How good is the answer to judge, compared with the reference? Say one whole number from 0 (wrong) to 10 (as good)."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_TRIES = 3


def make(settings: Mapping[str, Any]) -> Callable[[dict[str, Any]], float]:
    """The metric for a suite with `settings["judge"]`: base_url, model; optionally prompt (with {question}, {expected},
    {answer}), scale (what a full score is, 10), api_key_env, timeout (seconds), max_tokens."""
    judge = dict(settings["judge"])
    scale = float(judge.get("scale") or 10)
    template = str(judge.get("prompt") or PROMPT)

    def score(row: dict[str, Any]) -> float:
        question = "\n".join(turn["content"] for turn in row["prompt"] if turn["role"] != "system")
        prompt = template
        for name, text in (("question", question), ("expected", row["expected"]), ("answer", row["answer"])):
            prompt = prompt.replace("{" + name + "}", text)
        said = _ask(judge, prompt)
        row.setdefault("notes", {}).update({"judge.prompt": prompt, "judge.answer": said})
        found = _NUMBER.search(said)
        return min(1.0, float(found[0]) / scale) if found else 0.0

    return score


def _ask(judge: Mapping[str, Any], prompt: str) -> str:
    """The endpoint's answer. An `InputError` when it refuses, a `StorageError` when it cannot be reached."""
    url = str(judge["base_url"]).rstrip("/") + "/chat/completions"
    if not url.startswith(("http://", "https://")):
        raise InputError(f"the judge's base_url must be http:// or https://, not {judge['base_url']!r}")
    body = {
        "model": judge["model"],
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": int(judge.get("max_tokens") or 256),
    }
    headers = {"Content-Type": "application/json", **_key(judge)}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    last: Exception | None = None
    for _ in range(_TRIES):
        try:
            with urllib.request.urlopen(request, timeout=float(judge.get("timeout") or 120)) as response:
                return str(json.load(response)["choices"][0]["message"]["content"] or "")
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise InputError(f"the judge refused ({error.code} {error.reason})", where=url) from None
            last = error
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            last = error
        except (KeyError, IndexError, TypeError, ValueError):
            raise InputError("the judge's answer is not that of OpenAI's chat interface", where=url) from None
    raise StorageError(f"the judge cannot be reached ({last})", where=url, do="is the server running?")


def _key(judge: Mapping[str, Any]) -> dict[str, str]:
    name = judge.get("api_key_env")
    if not name:
        return {}
    key = os.environ.get(str(name))
    if not key:
        raise MissingError(f"the environment variable {name} with the judge's key is not set", do=f"export {name}=…")
    return {"Authorization": f"Bearer {key}"}
