"""A chat template as Ollama takes it: written in Go's template language, and rendered again to check it.

`write` makes the text of `Turns`; `render` understands exactly what `write` makes (literals, `if`, `range`, `eq`,
`not`, `and`, `len`, `slice`), as Go's text/template does. All literal text stands in quoted constants: Ollama's
Modelfile drops characters that do not print, and Go's trimming would eat line ends. Called by `ollama`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Message = Mapping[str, str]
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True)
class Turns:
    """What a template writes around each turn.

    lead      before everything; `default`: after it, when there is no system message
    system    where a system message goes: a turn of its own, inside the first or the last user turn, nowhere
    prompt    what asks for the next answer, after the last user turn
    """

    lead: str = ""
    default: str = ""
    system: Literal["turn", "first", "last", "none"] = "none"
    system_before: str = ""
    system_after: str = ""
    user_before: str = ""
    user_after: str = ""
    assistant_before: str = ""
    assistant_after: str = ""
    prompt: str = ""


def write(turns: Turns) -> str:
    """The Go template. Ollama hands it `.System` (all system messages) and `.Messages` (by role, alternating)."""
    inside = turns.system in ("first", "last")
    lines = [_out(turns.lead)] if turns.lead else []
    if turns.default:
        lines.append(f"{{{{- if not .System }}}}{_out(turns.default)}{{{{ end }}}}")
    if turns.system == "first":
        lines.append("{{- $first := true }}")
    lines += [
        "{{- range $i, $message := .Messages }}",
        "{{- $last := eq (len (slice $.Messages $i)) 1 }}",
        '{{- if eq $message.Role "user" }}'
        + _out(turns.user_before)
        + (_system_inside(turns) if inside else "")
        + "{{ $message.Content }}"
        + _out(turns.user_after)
        + ("{{ $first = false }}" if turns.system == "first" else "")
        + (f"{{{{ if $last }}}}{_out(turns.prompt)}{{{{ end }}}}" if turns.prompt else ""),
        '{{- else if eq $message.Role "assistant" }}'
        + _out(turns.assistant_before)
        + "{{ $message.Content }}"
        + (f"{{{{ if not $last }}}}{_out(turns.assistant_after)}{{{{ end }}}}" if turns.assistant_after else ""),
    ]
    if turns.system == "turn":
        lines.append(
            '{{- else if eq $message.Role "system" }}'
            + f"{_out(turns.system_before)}{{{{ $message.Content }}}}{_out(turns.system_after)}"
        )
    return "\n".join([*lines, "{{- end }}", "{{- end }}"])


def _system_inside(turns: Turns) -> str:
    body = f"{_out(turns.system_before)}{{{{ $.System }}}}{_out(turns.system_after)}"
    return f"{{{{ if and ${turns.system} $.System }}}}{body}{{{{ end }}}}"


def _out(text: str) -> str:
    return f"{{{{ {quote(text)} }}}}" if text else ""


def quote(text: str) -> str:
    """A Go string constant that stands in a Modelfile: whatever does not print is escaped."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    if character in _SHORT:
        return _SHORT[character]
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


# --- rendering it again ---------------------------------------------------------------------------------------------

_ACTION = re.compile(r"\{\{(-?)((?:[^\"}]|\"(?:[^\"\\]|\\.)*\"|\}(?!\}))*?)(-?)\}\}", re.DOTALL)
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\$?[\w.]+|\$|:=|[=(),]|\.[\w.]+)')
_UNQUOTED = re.compile(r"\\(?:U([0-9a-f]{8})|u([0-9a-f]{4})|(.))", re.DOTALL)


def render(template: str, messages: Sequence[Message]) -> str:
    """What Go makes of a template of `write`, with the values that Ollama gives it."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    root = {"System": system, "Messages": [{"Role": m["role"], "Content": m["content"]} for m in messages]}
    nodes = _Parser(template).nodes
    return "".join(_run(nodes, {"$": root}))


class _Parser:
    """Template text to nodes: ("text", s), ("out", expr), ("set", name, expr), ("if", branches), ("range", …)."""

    def __init__(self, template: str) -> None:
        self._parts = list(_split(template))
        self._at = 0
        self.nodes = self._until(())

    def _until(self, ends: tuple[str, ...]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        while self._at < len(self._parts):
            kind, value = self._parts[self._at]
            if kind == "action" and value[0] in ends:
                return found
            self._at += 1
            found.append(self._node(value) if kind == "action" else ("text", value))
        if ends:
            raise ValueError(f"the template ends before {' or '.join(ends)}")
        return found

    def _node(self, tokens: list[str]) -> tuple[Any, ...]:
        if tokens[0] == "if":
            branches = [(_expression(tokens[1:]), self._until(("else", "end")))]
            while (following := self._next())[0] == "else":
                condition = _expression(following[2:]) if len(following) > 1 else True
                branches.append((condition, self._until(("else", "end"))))
            return ("if", branches)
        if tokens[0] == "range":  # range $i, $message := EXPRESSION
            body = self._until(("end",))
            self._next()
            return ("range", tokens[1], tokens[3], _expression(tokens[5:]), body)
        if len(tokens) > 2 and tokens[1] in (":=", "="):
            return ("set", tokens[0], _expression(tokens[2:]))
        return ("out", _expression(tokens))

    def _next(self) -> list[str]:
        self._at += 1
        return self._parts[self._at - 1][1]


def _split(template: str) -> Iterator[tuple[str, Any]]:
    at, trim = 0, False
    for match in _ACTION.finditer(template):
        text = template[at : match.start()]
        text = text.lstrip() if trim else text
        text = text.rstrip() if match[1] else text
        if text:
            yield "text", text
        yield "action", _TOKEN.findall(match[2])
        at, trim = match.end(), bool(match[3])
    rest = template[at:].lstrip() if trim else template[at:]
    if rest:
        yield "text", rest


def _expression(tokens: list[str]) -> Any:
    """Nested lists: ["eq", operand, operand], or one operand."""
    stack: list[list[Any]] = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")":
            inner = stack.pop()
            stack[-1].append(inner)
        else:
            stack[-1].append(token)
    return stack[0] if len(stack[0]) > 1 else stack[0][0]


def _run(nodes: list[tuple[Any, ...]], names: dict[str, Any]) -> Iterator[str]:
    for kind, *rest in nodes:
        if kind == "text":
            yield rest[0]
        elif kind == "out":
            yield str(_value(rest[0], names))
        elif kind == "set":
            names[rest[0]] = _value(rest[1], names)
        elif kind == "if":
            for condition, body in rest[0]:
                if condition is True or _value(condition, names):
                    yield from _run(body, names)
                    break
        else:
            index, item, sequence, body = rest
            for number, value in enumerate(_value(sequence, names)):
                names[index], names[item] = number, value
                yield from _run(body, names)


def _value(expression: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(expression, list):
        name, *operands = expression
        values = [_value(operand, names) for operand in operands]
        return _FUNCTIONS[name](*values)
    if expression.startswith('"'):
        return _UNQUOTED.sub(_unescaped, expression[1:-1])
    if expression.isdigit():
        return int(expression)
    if expression in ("true", "false"):
        return expression == "true"
    name, *fields = expression.split(".")
    value = names[name or "$"]  # outside `range`, a field is one of the root
    for field in fields:
        value = value[field]
    return value


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else {"n": "\n", "r": "\r", "t": "\t"}.get(match[3], match[3])


_FUNCTIONS: Mapping[str, Any] = {
    "eq": lambda one, other: one == other,
    "not": lambda value: not value,
    "and": lambda one, other: other if one else one,
    "len": len,
    "slice": lambda values, start: values[start:],
}
