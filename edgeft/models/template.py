"""A chat template, rendered as transformers renders it but without transformers: for GGUF and ONNX files.

Called by the runtimes of those files and by the exporter that writes Ollama's form of a template.

The template comes from a file that may have been downloaded, so it runs in Jinja's immutable sandbox only. Source of
what a template may rely on: `transformers.utils.chat_template_utils` (trim_blocks, lstrip_blocks, loop controls,
`tojson` without HTML escapes, `raise_exception`, `strftime_now`, `{% generation %}`); a test compares both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from edgeft.errors import ModelError
from edgeft.template_date import strftime_now


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = False,
    tools: Sequence[Any] = (),
    variables: Mapping[str, Any] | None = None,
    where: str = "",
) -> str:
    """The conversation as `template` writes it, `tools` (descriptions as JSON objects) offered. `variables` are the
    special tokens by name ("bos_token", "eos_token"), and what else a template may ask for by name (another
    `strftime_now`).

    Raises `ModelError` when the template is broken, is refused by the sandbox, or itself refuses the conversation.
    """
    import jinja2

    try:
        return str(
            _compile(template).render(
                messages=[dict(message) for message in messages],
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **(variables or {}),
            )
        )
    except jinja2.TemplateSyntaxError as error:
        raise ModelError(
            f"the chat template is broken: {error.message} (its line {error.lineno})", where=where
        ) from None
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"the chat template does not accept this conversation: {error}", where=where) from None


@lru_cache(maxsize=16)
def _compile(template: str) -> Any:
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_generation_extension(), jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment.from_string(template)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)


@lru_cache(maxsize=1)
def _generation_extension() -> Any:
    """`{% generation %}` marks what the model writes (for loss masks); when rendering, its body is just text."""
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 (jinja2's own declaration)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    return Generation
