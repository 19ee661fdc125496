"""A Modelfile for Ollama beside a GGUF file: the model's own chat template in Go's template language, stop tokens,
parameters.

The template is derived by probes (conversations rendered with it, cut at what was said) and checked by rendering the
Go form again on other conversations. A date that it writes is the fixed one that data and training saw. What cannot be
said in Go is refused with the reason, and there is no Modelfile: a model prompted wrongly does not stop, or answers as
if it had not been trained. Called by `export` and `lora`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.go_template import Turns, render
from edgeft.exporters.gguf.go_template import write as write_go
from edgeft.exporters.gguf.vocab import Vocabulary
from edgeft.files import write_text
from edgeft.models import template as jinja
from edgeft.template_date import strftime_now
from edgeft.weights.checkpoint import read_table

FILE = "Modelfile"
_LONGEST = 8192  # tokens of context that a Modelfile asks for by itself: memory grows with them
# generation_config.json's names -> Ollama's.
_SAMPLING = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
_SAID = [f"kenqu{letter}vix" for letter in "abcdef"]  # words that no template writes or changes
_SYSTEM = "morphizsys"
_TRIED = (
    "What is 3 + 4?",
    'Two lines:\n\n"quoted" {{ braces }} {% and %} \\n \\ `ticks` <b> & $1',
    "Привет, 你好 👋",
    "{}",
    "- one\n- two",
    "x",
    "Thank you",
)
Render = Callable[[Sequence[Mapping[str, str]], bool], str]


class NotExpressible(Exception):
    """Why a chat template has no Go form; a sentence without its subject ("writes the date of the day")."""


def write_modelfile(
    folder: Path,
    file: str,
    base: Path,
    vocabulary: Vocabulary,
    config: Mapping[str, Any],
    adapter: str | None = None,
    system: str | None = None,
) -> str | None:
    """Write `Modelfile` into `folder`; None, or why there is none.

    file     the GGUF model beside it, `adapter` a GGUF adapter; `base`: the checkpoint folder, for its settings
    system   the message that a conversation without one gets: the one of all training rows
    """
    try:
        go = go_template(vocabulary)
    except NotExpressible as reason:
        return f"the chat template {reason}"
    lines = [
        "# Written by edgeft from the model's own chat template, and checked against it.",
        *_remarks(vocabulary),
        f"FROM ./{file}",
        *([f"ADAPTER ./{adapter}"] if adapter else []),
        f'TEMPLATE """{go}"""',
        *_system_line(system),
        *(f"PARAMETER stop {stop}" for stop in _stops(vocabulary)),
        *(f"PARAMETER {name} {value}" for name, value in _parameters(base, config)),
    ]
    write_text(folder / FILE, "\n".join(lines) + "\n")
    return None


def go_template(vocabulary: Vocabulary) -> str:
    """The vocabulary's chat template as Ollama takes it, without the BOS that Ollama adds by itself."""
    source = vocabulary.template
    if not source:
        raise NotExpressible("is missing: the model has none")

    def shown(messages: Sequence[Mapping[str, str]], prompt: bool) -> str:
        return _shown(vocabulary, messages, prompt)

    question = [{"role": "user", "content": _SAID[0]}]
    first = _attempt(shown, question, True)
    if first is None:
        raise NotExpressible("refuses a plain question")
    bos = _bos(vocabulary) if first.startswith(_bos(vocabulary)) else ""
    if vocabulary.add_bos:
        if not bos:
            raise NotExpressible("does not begin with the token that Ollama will put before every prompt")
        shown, bos = _without(bos, shown), ""
    go = write_go(_turns(shown, bos))
    _check(go, shown)
    return go


def _without(bos: str, shown: Render) -> Render:
    """Renderings without the BOS in front, which Ollama adds when the file says that the tokenizer does."""
    return lambda messages, prompt: shown(messages, prompt).removeprefix(bos)


def _bos(vocabulary: Vocabulary) -> str:
    number = vocabulary.special.get("bos")
    return "" if number is None else vocabulary.tokens[number]


def _shown(
    vocabulary: Vocabulary, messages: Sequence[Mapping[str, str]], prompt: bool, more: Mapping[str, Any] | None = None
) -> str:
    """As the runtime of GGUF files renders it: the special tokens by name."""
    names = {
        f"{role}_token": vocabulary.tokens[vocabulary.special[role]]
        for role in ("bos", "eos")
        if role in vocabulary.special
    }
    return jinja.render(
        vocabulary.template, messages, add_generation_prompt=prompt, variables={**names, **(more or {})}
    )


def _attempt(shown: Render, messages: Sequence[Mapping[str, str]], prompt: bool) -> str | None:
    try:
        return shown(messages, prompt)
    except ModelError:
        return None


# --- deriving -------------------------------------------------------------------------------------------------------


def _talk(*said: str, system: str | None = None) -> list[dict[str, str]]:
    """A conversation: user and assistant in turn, after a system message."""
    turns = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(said)]
    return ([{"role": "system", "content": system}] if system is not None else []) + turns


def _cut(text: str | None, said: Sequence[str]) -> list[str]:
    """What stands before, between and after the things said; `NotExpressible` unless each is there once, in order."""
    if text is None:
        raise NotExpressible("refuses a conversation of several turns")
    parts = []
    for words in said:
        before, found, text = text.partition(words)
        if not found:
            raise NotExpressible("changes, reorders or leaves out what was said")
        parts.append(before)
    if any(words in part for words in said for part in [*parts, text]):
        raise NotExpressible("writes what was said more than once")
    return [*parts, text]


def _turns(shown: Render, lead: str) -> Turns:
    a, b, c, d, e = _SAID[:5]
    start, end = _cut(_attempt(shown, _talk(a), True), (a,))
    parts = _cut(_attempt(shown, _talk(a, b, c, d, e), True), (a, b, c, d, e))
    if parts != [start, parts[1], parts[2], parts[1], parts[2], end]:
        raise NotExpressible("writes a turn otherwise by its place in the conversation")
    answer, question = parts[1], parts[2]  # before an answer, and after it up to the next question
    user_after = _cut(_attempt(shown, _talk(a), False) or start + a, (a,))[1]
    if not (end.startswith(user_after) and answer.startswith(user_after)):
        user_after = _common(end, answer)
    closed = _attempt(shown, _talk(a, b), False)
    assistant_after = closed.rpartition(b)[2] if closed and b in closed else ""
    user_before = question.removeprefix(assistant_after)
    if not question.startswith(assistant_after) or not start.endswith(user_before):
        user_before = _common(start[::-1], question[::-1])[::-1]
    turns = Turns(
        lead=start.removesuffix(user_before),
        user_before=user_before,
        user_after=user_after,
        assistant_before=answer.removeprefix(user_after),
        assistant_after=question.removesuffix(user_before),
        prompt=end.removeprefix(user_after),
    )
    return _with_system(turns, shown, lead)


def _with_system(turns: Turns, shown: Render, bos: str) -> Turns:
    """Add where a system message goes, from the same conversation with one and without."""
    a, b, c = _SAID[:3]
    alone = _attempt(shown, _talk(a, system=_SYSTEM), True)
    if alone is None or _SYSTEM not in alone:
        return turns
    before, between, _ = _cut(alone, (_SYSTEM, a))
    longer = _attempt(shown, _talk(a, b, c, system=_SYSTEM), True)
    if longer is None:
        raise NotExpressible("refuses a conversation of several turns after a system message")
    if longer.find(_SYSTEM) > longer.find(a):
        where = turns.lead + turns.user_before
        if not before.startswith(where):
            raise NotExpressible("writes a system message where edgeft cannot follow")
        return replace(turns, system="last", system_before=before.removeprefix(where), system_after=between)
    if between.endswith(turns.user_before):
        lead = turns.lead if before.startswith(turns.lead) else bos
        return replace(
            turns,
            lead=lead,
            default=turns.lead.removeprefix(lead),
            system="turn",
            system_before=before.removeprefix(lead),
            system_after=between.removesuffix(turns.user_before),
        )
    where = turns.lead + turns.user_before
    if not before.startswith(where):
        raise NotExpressible("writes a system message where edgeft cannot follow")
    return replace(turns, system="first", system_before=before.removeprefix(where), system_after=between)


def _common(one: str, other: str) -> str:
    """The longest common beginning."""
    count = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    return one[: min(len(one), len(other)) if count is None else count]


def _check(go: str, shown: Render) -> None:
    """Render the Go form again: other words, one to seven turns, with and without a system message."""
    for system in (None, 'Be brief.\n"Really" {{ .System }}'):
        if system is not None and system not in (_attempt(shown, _talk(_TRIED[0], system=system), True) or ""):
            continue  # the template has no place for it, or refuses it
        for count in (1, 3, 5, 7):
            messages = _talk(*_TRIED[:count], system=system)
            if render(go, messages) != _attempt(shown, messages, True):
                about = "with a system message " if system else ""
                raise NotExpressible(
                    f"writes a conversation of {count} turns {about}in a way that edgeft cannot express"
                )


# --- the other lines ------------------------------------------------------------------------------------------------


def _remarks(vocabulary: Vocabulary) -> list[str]:
    found = []
    padded, bare = ([{"role": "user", "content": text}] for text in (f" {_SAID[0]} ", _SAID[0]))
    if _shown(vocabulary, padded, True) == _shown(vocabulary, bare, True):
        found.append("# The template strips blanks around what is said; Ollama passes them on.")
    if _dated(vocabulary):
        found.append(f"# The template writes today's date; here it is {strftime_now('%d %b %Y')}, as in training.")
    if "tools" in vocabulary.template:
        found.append("# The template's part about tools is not in here.")
    return found


def _dated(vocabulary: Vocabulary) -> bool:
    """Whether a prompt tells the day."""
    question = [{"role": "user", "content": _SAID[0]}]
    another = {"strftime_now": lambda pattern: "another day"}
    return _shown(vocabulary, question, True) != _shown(vocabulary, question, True, another)


def _system_line(system: str | None) -> list[str]:
    """SYSTEM, when a Modelfile can quote it: three quotes end it, and characters that do not print are dropped."""
    if not system or '"""' in system or system.startswith('"') or system.endswith('"'):
        return []
    whole = all(character.isprintable() or character in "\n\t" for character in system)
    return [f'SYSTEM """{system}"""'] if whole else []


def _stops(vocabulary: Vocabulary) -> list[str]:
    """The texts of the tokens that end an answer, as a Modelfile quotes them."""
    ends = dict.fromkeys(vocabulary.special[role] for role in ("eos", "eot", "eom") if role in vocabulary.special)
    texts = [vocabulary.tokens[number] for number in ends]
    return [f'"{text}"' for text in texts if text.isprintable() and '"' not in text and text.strip()]


def _parameters(base: Path, config: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The context, and how the base's generation_config.json samples (greedily unless it says so)."""
    length = config.get("max_position_embeddings") or config.get("n_positions")
    found: list[tuple[str, float]] = [("num_ctx", min(int(length), _LONGEST))] if isinstance(length, int) else []
    path = base / "generation_config.json"
    settings = read_table(path) if path.is_file() else {}
    if not settings.get("do_sample"):
        return [*found, ("temperature", 0)]
    for theirs, name in _SAMPLING.items():
        value = settings.get(theirs)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found.append((name, value))
    return found
