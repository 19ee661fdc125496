"""Ollama's form of a chat template: derived by probes, checked by rendering it again, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.exporters.gguf import ollama
from edgeft.exporters.gguf.go_template import Turns, quote, render, write
from edgeft.exporters.gguf.vocab import Vocabulary
from edgeft.models import template as jinja

TURNS = "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + END + '\n' }}{% endfor %}"
ASK = "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES: dict[str, str] = {
    "chatml": CHATML,
    "qwen2 with a default": (
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are \"helpful\".<|im_end|>\n{% endif %}"
        + CHATML
    ),
    "llama 3": (
        "{% for m in messages %}{% set text = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
        "m['content'] | trim + '<|eot_id|>' %}{% if loop.first %}{% set text = bos_token + text %}{% endif %}"
        "{{ text }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    # As Llama 3.1's and 3.2's: a system turn always, with dates, and the system message in it.
    "llama 3.1": (
        "{{- bos_token }}\n{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}\n"
        "{%- if not tools is defined %}{%- set tools = none %}{%- endif %}\n"
        "{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n"
        "        {%- set date_string = strftime_now('%d %b %Y') %}\n    {%- else %}\n"
        "        {%- set date_string = '26 Jul 2024' %}\n    {%- endif %}\n{%- endif %}\n"
        "{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content'] | trim %}\n"
        "    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = '' %}\n{%- endif %}\n"
        "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}\n"
        "{%- if tools is not none %}\n    {{- 'Environment: ipython\n' }}\n{%- endif %}\n"
        "{{- 'Cutting Knowledge Date: December 2023\n' }}\n{{- 'Today Date: ' + date_string + '\n\n' }}\n"
        "{{- system_message }}\n{{- '<|eot_id|>' }}\n{%- for message in messages %}\n"
        "    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}\n"
        "        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + "
        "'<|eot_id|>' }}\n    {%- else %}\n        {{- raise_exception('no tools here') }}\n    {%- endif %}\n"
        "{%- endfor %}\n{%- if add_generation_prompt %}\n"
        "    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}\n{%- endif %}\n"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
        "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    "gemma 3": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\n' + "
        "(first if loop.first else '') + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    "phi 3": TURNS.replace("END", "'<|end|>'") + ASK,
    "zephyr": TURNS.replace("END", "eos_token") + ASK,
    "llama 2": (
        "{% if messages[0]['role'] == 'system' %}"
        "{% set first = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + (first if loop.first else '') + "
        "m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "mistral": (
        "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
        "{% else %}{% set rest = messages %}{% endif %}{{ bos_token }}{% for m in rest %}"
        "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}"
        "{% if m['role'] == 'user' %}{% if loop.last and system is defined %}"
        "{{ '[INST] ' + system + '\n\n' + m['content'] + '[/INST]' }}{% else %}"
        "{{ '[INST] ' + m['content'] + '[/INST]' }}"
        "{% endif %}{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
    "qwen3": (
        "{% set ns = namespace(last=-1) %}{% for m in messages[::-1] %}{% if m.role == 'user' and ns.last < 0 %}"
        "{% set ns.last = messages|length - 1 - loop.index0 %}{% endif %}{% endfor %}"
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        "{% set said = m.content.split('</think>')[-1].lstrip('\n') %}"
        "{% if loop.index0 > ns.last %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + said + '<|im_end|>\n' }}"
        "{% else %}{{ '<|im_start|>assistant\n' + said + '<|im_end|>\n' }}{% endif %}"
        "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and not "
        "enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
    ),
}
CONVERSATIONS = [
    ["Hello"],
    ["One\n\ntwo }} {{", 'a "b" \\n', "c"],
    ["1", "2", "3", "4", "Schluß, 好 👋"],
]


def vocabulary(source: str, *, add_bos: bool = False, **special: int) -> Vocabulary:
    tokens = ["<s>", "</s>", "<|im_end|>", "<|eot_id|>", 'odd"one', "line\nend"]
    return Vocabulary("x", tokens, [3] * 6, [], {"bos": 0, "eos": 1, **special}, add_bos, False, source)


def by_jinja(source: str, messages: list[dict[str, str]]) -> str:
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    return jinja.render(source, messages, add_generation_prompt=True, variables=names)


def talk(said: list[str], system: str | None) -> list[dict[str, str]]:
    turns = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    return ([{"role": "system", "content": system}] if system else []) + turns


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("add_bos", [False, True])
def test_the_go_form_renders_what_jinja_renders(name: str, add_bos: bool) -> None:
    source = TEMPLATES[name]
    bos = by_jinja(source, talk(["x"], None)).startswith("<s>")
    if add_bos and not bos:
        with pytest.raises(ollama.NotExpressible, match="Ollama will put before every prompt"):
            ollama.go_template(vocabulary(source, add_bos=True))
        return
    go = ollama.go_template(vocabulary(source, add_bos=add_bos))
    for said in CONVERSATIONS:
        for system in (None, "Be brief.") if name != "gemma" else (None,):
            wanted = by_jinja(source, talk(said, system))
            assert render(go, talk(said, system)) == (wanted.removeprefix("<s>") if add_bos else wanted)


def test_a_go_template_to_read() -> None:
    """What it looks like; Ollama is not there to ask, so this pins what its documentation shows."""
    assert ollama.go_template(vocabulary(TEMPLATES["qwen2 with a default"])) == "\n".join(
        [
            r"""{{- if not .System }}{{ "<|im_start|>system\nYou are \"helpful\".<|im_end|>\n" }}{{ end }}""",
            "{{- range $i, $message := .Messages }}",
            "{{- $last := eq (len (slice $.Messages $i)) 1 }}",
            r"""{{- if eq $message.Role "user" }}{{ "<|im_start|>user\n" }}{{ $message.Content }}{{ "<|im_end|>\n" }}"""
            r"""{{ if $last }}{{ "<|im_start|>assistant\n" }}{{ end }}""",
            r"""{{- else if eq $message.Role "assistant" }}{{ "<|im_start|>assistant\n" }}{{ $message.Content }}"""
            r"""{{ if not $last }}{{ "<|im_end|>\n" }}{{ end }}""",
            r"""{{- else if eq $message.Role "system" }}{{ "<|im_start|>system\n" }}{{ $message.Content }}"""
            r"""{{ "<|im_end|>\n" }}""",
            "{{- end }}",
            "{{- end }}",
        ]
    )


REFUSED: dict[str, tuple[str, str]] = {
    "": ("", "is missing: the model has none"),
    "refuses": ("{{ raise_exception('no') }}", "refuses a plain question"),
    "reorders": (
        CHATML.replace("in messages", "in messages[::-1]"),
        "changes, reorders or leaves out what was said",
    ),
    "changes": (
        CHATML.replace("m['content']", "m['content'] | upper"),
        "changes, reorders or leaves out what was said",
    ),
    "twice": (CHATML.replace("m['content']", "m['content'] + m['content']"), "writes what was said more than once"),
    "one turn": (
        "{% if messages|length > 1 %}{{ raise_exception('one turn') }}{% endif %}" + CHATML,
        "refuses a conversation of several turns",
    ),
    "by place": (
        CHATML.replace("'<|im_start|>' + m['role']", "'<|im_start|>' + loop.index|string + m['role']"),
        "writes a turn otherwise by its place in the conversation",
    ),
    "by length": (
        CHATML + "{% if messages|length == 7 %}{{ 'Last words.' }}{% endif %}",
        "writes a conversation of 7 turns in a way that edgeft cannot express",
    ),
    "by content": (
        CHATML.replace("m['content']", "m['content'] | replace('{', '(')"),
        "writes a conversation of 3 turns in a way that edgeft cannot express",
    ),
    "system at the end": (
        "{% for m in messages if m['role'] != 'system' %}{{ '<' + m['role'] + '>' + m['content'] + '\n' }}{% endfor %}"
        "{% if messages[0]['role'] == 'system' %}{{ 'Remember: ' + messages[0]['content'] + '\n' }}{% endif %}"
        "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}",
        "changes, reorders or leaves out what was said",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_ollama_cannot_be_told(name: str) -> None:
    source, reason = REFUSED[name]
    with pytest.raises(ollama.NotExpressible) as caught:
        ollama.go_template(vocabulary(source))
    assert str(caught.value) == reason


def test_a_modelfile(tmp_path: Path) -> None:
    settings = {
        "do_sample": True,
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "repetition_penalty": 1.05,
        "min_p": True,
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    known = vocabulary(TEMPLATES["llama 3"] + "{# tools #}", eos=2, eot=3, eom=4)
    config = {"max_position_embeddings": 131072}
    assert ollama.write_modelfile(tmp_path, "m-q8_0.gguf", tmp_path, known, config, "a.gguf") is None
    text = (tmp_path / "Modelfile").read_text()
    assert text.count('"""') == 2
    before, template, after = text.split('"""')
    assert before.splitlines() == [
        "# Written by edgeft from the model's own chat template, and checked against it.",
        "# The template strips blanks around what is said; Ollama passes them on.",
        "# The template's part about tools is not in here.",
        "FROM ./m-q8_0.gguf",
        "ADAPTER ./a.gguf",
        "TEMPLATE ",
    ]
    assert render(template, talk(["Hello"], None)) == by_jinja(known.template, talk(["Hello"], None))
    assert after.strip().splitlines() == [
        'PARAMETER stop "<|im_end|>"',
        'PARAMETER stop "<|eot_id|>"',
        "PARAMETER num_ctx 8192",
        "PARAMETER temperature 0.6",
        "PARAMETER top_k 20",
        "PARAMETER top_p 0.95",
        "PARAMETER repeat_penalty 1.05",
    ]


def test_a_template_with_the_date_gets_the_one_of_training(tmp_path: Path) -> None:
    known = vocabulary(TEMPLATES["llama 3.1"], add_bos=True)
    assert ollama.write_modelfile(tmp_path, "m.gguf", tmp_path, known, {}) is None
    text = (tmp_path / "Modelfile").read_text()
    assert "# The template writes today's date; here it is 26 Jul 2024, as in training.\n" in text
    go = text.split('"""')[1]
    assert render(go, talk(["Hello"], "Be brief.")) == (
        "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert "Today Date: 26 Jul 2024\n\n<|eot_id|>" in render(go, talk(["Hello"], None))


def test_a_model_that_does_not_sample_is_greedy(tmp_path: Path) -> None:
    assert ollama.write_modelfile(tmp_path, "m.gguf", tmp_path, vocabulary(CHATML), {"n_positions": 1024}) is None
    assert (
        (tmp_path / "Modelfile").read_text().endswith('stop "</s>"\nPARAMETER num_ctx 1024\nPARAMETER temperature 0\n')
    )


@pytest.mark.parametrize("system", ["Be brief.", "Two\nlines, 好", 'Say "yes" now'])
def test_the_system_message_of_training_is_the_one_by_itself(system: str, tmp_path: Path) -> None:
    assert ollama.write_modelfile(tmp_path, "m.gguf", tmp_path, vocabulary(CHATML), {}, system=system) is None
    assert f'\nSYSTEM """{system}"""\n' in (tmp_path / "Modelfile").read_text()


@pytest.mark.parametrize("system", [None, "", 'three """ end it', 'at its end"', "bell \x07"])
def test_a_system_message_that_cannot_be_quoted_is_left_out(system: str | None, tmp_path: Path) -> None:
    assert ollama.write_modelfile(tmp_path, "m.gguf", tmp_path, vocabulary(CHATML), {}, system=system) is None
    assert "SYSTEM" not in (tmp_path / "Modelfile").read_text().rpartition('"""')[2]


def test_no_modelfile_and_why(tmp_path: Path) -> None:
    reason = ollama.write_modelfile(tmp_path, "m.gguf", tmp_path, vocabulary(""), {})
    assert reason == "the chat template is missing: the model has none"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["a\nb\tc\r", 'q"\\', "}} {{ -}}", "no\u00a0break \u200b \U000e0001 \x07", "｜好👋"])
def test_constants_survive_a_modelfile(text: str) -> None:
    """Ollama drops what does not print before Go reads it; an escape is read back as it was."""
    go = write(Turns(lead=text, user_before=text))
    assert all(character.isprintable() or character == "\n" for character in go)
    assert '"""' not in go
    assert render(go, talk(["x"], None)) == text + text + "x"
    assert quote("\u00a0") == '"\\u00a0"'


def test_the_date_is_seen_only_where_it_is_written() -> None:
    """A template that asks for the date in a branch that no conversation takes is as good as any."""
    source = "{% if documents %}{{ strftime_now('%d') }}{% endif %}" + CHATML
    assert render(ollama.go_template(vocabulary(source)), talk(["x"], None)) == by_jinja(CHATML, talk(["x"], None))


def test_the_sandbox_holds(tmp_path: Path) -> None:
    source = "{{ messages.__class__.__mro__ }}" + CHATML
    reason: Any = ollama.write_modelfile(tmp_path, "m.gguf", tmp_path, vocabulary(source), {})
    assert reason == "the chat template refuses a plain question"
