"""Our rendering against transformers' own, on templates that use what templates use; and what the sandbox refuses."""

from __future__ import annotations

from typing import Any

import pytest

from edgeft.errors import ModelError
from edgeft.models.template import render
from tests.models_made import CHAT_TEMPLATE

TALK = [
    {"role": "system", "content": "  Be brief. "},
    {"role": "user", "content": 'Grüße <b>&\n\n"x"'},
    {"role": "assistant", "content": "ok"},
]
LLAMA = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}{% set rest = messages[1:] %}
{%- else %}{% set system = '' %}{% set rest = messages %}{% endif %}
{{- '<<SYS>>' + system + '<</SYS>>' }}
{%- for message in rest %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' ~ message.content ~ ' [/INST]' }}
    {%- else %}
        {{- message.content + eos_token }}
    {%- endif %}
{%- endfor %}
{% if add_generation_prompt %}>{% endif %}
"""
LOOPS = """{% set ns = namespace(count=0) %}
{% for message in messages %}
  {% if message.role == 'system' %}
    {% continue %}
  {% endif %}
  {% set ns.count = ns.count + 1 %}
{{ ns.count }}: {{ message | tojson }} {{ message | tojson(indent=2) }}
  {% generation %}{{ message.content | upper }}{% endgeneration %}
{% endfor %}
{{ tools is none }} {{ documents is none }} {{ missing is defined }}
"""


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, LLAMA, LOOPS])
@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("messages", [TALK, TALK[1:], TALK[:2]])
def test_as_transformers_renders(template: str, prompt: bool, messages: list[dict[str, str]]) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    special = {"bos_token": "<s>", "eos_token": "</s>"}
    (expected,), _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=prompt, **special)
    assert render(template, messages, add_generation_prompt=prompt, variables=special) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}", r"the chat template is broken: Unexpected end of template.* \(its line 1\)"),
        ("{{ raise_exception('roles must alternate') }}", "does not accept this conversation: roles must alternate"),
        ("{{ messages[7].content }}", "does not accept this conversation"),
        ("{{ 1 / 0 }}", "does not accept this conversation"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "does not accept this conversation: access to attribute"),
        ("{{ messages.append(1) }}", "does not accept this conversation: access to attribute 'append'"),
        ("{{ messages[0].update(role='x') }}", "does not accept this conversation"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "does not accept this conversation: Range too big"),
        ("{% include 'other' %}", "does not accept this conversation"),
    ],
)
def test_what_is_refused(template: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        render(template, TALK, where="model.gguf")


def test_messages_stay_as_they_were() -> None:
    messages: list[dict[str, Any]] = [dict(message) for message in TALK]
    render("{% for m in messages %}{% set m = {} %}{% endfor %}", messages)
    assert messages == TALK
