"""A base model's tokenizer and chat template, as training and the transformers runtime use them.

Templates are rendered by transformers' `apply_chat_template`, which compiles them in Jinja's
`ImmutableSandboxedEnvironment` (a test proves that an escape is refused). Called by the `data` and `train` stages and
by `runtimes/hf.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.models.identity import read_training
from edgeft.models.quiet import quiet


def load_tokenizer(folder: Path, *, chat_template: str | None = None, adapter: Path | None = None) -> Any:
    """The fast tokenizer of a base model folder, offline, without remote code.

    chat_template   the text of a template that takes the place of the model's own
    adapter         an adapter folder whose training.json may name the template it was trained with

    `ModelError` when it cannot be opened, cannot tell character offsets (a slow tokenizer), or its template is broken.
    """
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise ModelError(f"the tokenizer cannot be opened ({first_line(error)})", where=folder) from None
    if not tokenizer.is_fast:
        raise ModelError(
            "the tokenizer has no tokenizer.json: it cannot say which characters a token covers",
            where=folder,
            do="convert it once: AutoTokenizer.from_pretrained(folder, use_fast=True).save_pretrained(folder)",
        )
    if adapter is not None and chat_template is None:
        chat_template = (read_training(adapter) or {}).get("chat_template")
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    if isinstance(tokenizer.chat_template, str):
        check_template(tokenizer.chat_template, folder)
    return tokenizer


def check_template(template: str, where: Path) -> None:
    """A `ModelError` with the template's line when Jinja cannot compile it."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        compiled = _compile_jinja_template(template)
    except jinja2.TemplateSyntaxError as error:
        raise ModelError(
            f"the chat template is broken: {error.message} (its line {error.lineno})", where=where
        ) from None
    assert isinstance(compiled.environment, ImmutableSandboxedEnvironment)


def template_of(tokenizer: Any, where: Path | str = "") -> str:
    """The one chat template of a tokenizer. `ModelError` when there is none, or several to choose from by name."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        if "default" not in template:
            names = ", ".join(sorted(template))
            raise ModelError(f"the model has several chat templates ({names}) and none is the default", where=where)
        template = template["default"]
    if not template:
        raise ModelError(
            "the base model has no chat template", where=where, do="give one: chat_template: FILE.jinja under data:"
        )
    return str(template)


def generation_stop_ids(folder: Path) -> tuple[int, ...]:
    """The ids that end generation by generation_config.json, else by config.json (eos_token_id), sorted."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        try:
            value = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
        except (ValueError, AttributeError) as error:
            raise ModelError(f"{name} cannot be read ({first_line(error)})", where=path) from None
        if value is not None:
            return tuple(sorted({int(item) for item in (value if isinstance(value, list) else [value])}))
    return ()


def first_line(error: BaseException) -> str:
    """The first line of a foreign error's message, or its class name."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
