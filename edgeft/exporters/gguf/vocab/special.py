"""Special tokens, what encoding adds to a text, chat templates: from the files beside tokenizer.json. For `read`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import ascii_letters, digits
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.vocab.added import vocabulary_of
from edgeft.weights.checkpoint import read_table

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# Tokens to fill in the middle by their texts in well-known models: prefix, suffix, middle, padding, repository and file
# name. llama.cpp knows these texts too; the keys say it to other programs and settle which is meant.
_FILL = {
    "fim_pre": (
        "<|fim_prefix|>",
        "<fim_prefix>",
        "<fim-prefix>",
        "<｜fim▁begin｜>",
        "▁<PRE>",
        "<PRE>",
        "<|code_prefix|>",
    ),
    "fim_suf": (
        "<|fim_suffix|>",
        "<fim_suffix>",
        "<fim-suffix>",
        "<｜fim▁hole｜>",
        "▁<SUF>",
        "<SUF>",
        "<|code_suffix|>",
    ),
    "fim_mid": (
        "<|fim_middle|>",
        "<fim_middle>",
        "<fim-middle>",
        "<｜fim▁end｜>",
        "▁<MID>",
        "<MID>",
        "<|code_middle|>",
    ),
    "fim_pad": ("<|fim_pad|>", "<fim_pad>", "<fim-pad>"),
    "fim_rep": ("<|repo_name|>", "<|fim_repo|>", "<reponame>", "<fim-repo>"),
    "fim_sep": ("<|file_sep|>",),
}
_NAME = frozenset(ascii_letters + digits)


def special_tokens(
    folder: Path, tokenizer: Mapping[str, Any], settings: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, int]:
    """Role -> id: by the tokenizer's settings, else by config.json; further end tokens as eot and eom; the tokens that
    fill in the middle. A tokenizer that only has cls and sep begins and ends texts with them."""
    added = {entry["content"]: int(entry["id"]) for entry in tokenizer.get("added_tokens") or []}
    ids = {**vocabulary_of(tokenizer["model"]), **added}
    size = int(config["vocab_size"])
    found: dict[str, int] = {}
    for role in ROLES:
        number = ids.get(token_text(settings, role) or "")
        if number is None:
            number = config.get(f"{role}_token_id")
        if isinstance(number, list):
            number = number[0] if number else None
        if isinstance(number, int) and 0 <= number < size:
            found[role] = number
    for role, stand_in in (("bos", "cls"), ("eos", "sep")):
        if role not in found and stand_in in found:
            found[role] = found[stand_in]
    for role, number in zip(("eot", "eom"), _other_ends(folder, config, found.get("eos")), strict=False):
        found[role] = number
    for role, texts in _FILL.items():
        number = next((added[text] for text in texts if text in added), None)
        if number is not None:
            found[role] = number
    return found


def token_text(settings: Mapping[str, Any], role: str) -> str | None:
    """What tokenizer_config.json calls the bos, eos, … token."""
    entry = settings.get(f"{role}_token")
    text = entry.get("content") if isinstance(entry, Mapping) else entry
    return text if isinstance(text, str) else None


def _other_ends(folder: Path, config: Mapping[str, Any], eos: int | None) -> list[int]:
    path = folder / "generation_config.json"
    ends = read_table(path).get("eos_token_id") if path.is_file() else None
    ends = config.get("eos_token_id") if ends is None else ends
    ends = ends if isinstance(ends, list) else [ends]
    return [end for end in ends if isinstance(end, int) and end != eos and 0 <= end < int(config["vocab_size"])]


def added_to_texts(
    tokenizer: Mapping[str, Any], settings: Mapping[str, Any], texts: Mapping[int, str], special: Mapping[str, int]
) -> tuple[bool, bool]:
    """Whether encoding a text adds bos and eos: by the post-processor, else by the settings. `texts`: the tokenizer's
    own by id."""
    post = tokenizer.get("post_processor")
    if post is None:
        return settings.get("add_bos_token") is True, settings.get("add_eos_token") is True
    for part in post.get("processors", [post]):
        kind = part.get("type")
        if kind == "TemplateProcessing":
            pieces = [(piece.get("SpecialToken") or {}).get("id") for piece in part.get("single") or []]
            if len(pieces) != 1 + sum(piece is not None for piece in pieces):
                raise ModelError(
                    "the tokenizer puts more or less than one text between special tokens: GGUF cannot say that"
                )
            at = pieces.index(None)
            if at > 1 or len(pieces) - at > 2:
                raise ModelError("the tokenizer adds several tokens to one end of every text: GGUF cannot say that")
            first, last = pieces[0] if at else None, pieces[-1] if at < len(pieces) - 1 else None
            return _is_role(first, "bos", texts, special), _is_role(last, "eos", texts, special)
        if kind in ("BertProcessing", "RobertaProcessing"):
            return _is_role(part["cls"][0], "bos", texts, special), _is_role(part["sep"][0], "eos", texts, special)
    return False, False


def _is_role(text: str | None, role: str, texts: Mapping[int, str], special: Mapping[str, int]) -> bool:
    if text is None:
        return False
    if role not in special or texts.get(special[role]) != text:
        raise ModelError(
            f"the tokenizer adds {text!r} to every text, which is not its {role} token: GGUF cannot say that"
        )
    return True


def chat_templates(folder: Path, settings: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The default template (may be empty) and further ones by name: of chat_template.jinja and the folder beside it,
    else of tokenizer_config.json, else of the older chat_template.json. Names in GGUF hold letters, digits and _."""
    path, further = folder / "chat_template.jinja", folder / "additional_chat_templates"
    found: dict[str, Any] = {}
    if path.is_file():
        found = {file.stem: file.read_text(encoding="utf-8") for file in sorted(further.glob("*.jinja"))}
        found["default"] = path.read_text(encoding="utf-8")
    else:
        older = folder / "chat_template.json"
        given = settings.get("chat_template")
        if given is None and older.is_file():
            given = read_table(older).get("chat_template")
        entries: list[dict[str, Any]] = given if isinstance(given, list) else [{"name": "default", "template": given}]
        found = {entry["name"]: entry["template"] for entry in entries}
    default = found.pop("default", None)
    named = {"".join(c if c in _NAME else "_" for c in name): text for name, text in found.items() if name}
    return default if isinstance(default, str) else "", {
        name: text for name, text in named.items() if isinstance(text, str)
    }
