"""A model's vocabulary as GGUF metadata: tokens, merges, special tokens and chat template, from tokenizer.json itself.

Byte-level BPE; SentencePiece vocabularies are refused with their name. Used by `export` and, for its refusals, `check`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.pretokenizer import recognise
from edgeft.weights.checkpoint import read_table

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5  # llama.cpp's token types
_SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_KEYS = {"unk": "unknown", "sep": "seperator", "pad": "padding"}  # llama.cpp spells it so
Put = Callable[[str, Any, str], None]


@dataclass(frozen=True)
class Vocabulary:
    """`tokens` and `types` by id; `merges` as "left right"; `special` role -> id; `template` may be empty."""

    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    special: dict[str, int]
    add_bos: bool
    add_eos: bool
    template: str


def read_vocabulary(folder: Path, config: Mapping[str, Any]) -> Vocabulary:
    """Read a byte-level BPE tokenizer. A `ModelError` for another kind or one that does not fit the model."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError("there is no tokenizer.json; edgeft writes GGUF vocabularies from it", where=folder)
    tokenizer = read_table(path)
    try:
        return _read(folder, tokenizer, config)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"tokenizer.json is not as the tokenizers library writes it ({error!r})", where=path) from None


def _read(folder: Path, tokenizer: Mapping[str, Any], config: Mapping[str, Any]) -> Vocabulary:
    model = tokenizer["model"]
    if (
        model.get("type") != "BPE"
        or model.get("byte_fallback")
        or (tokenizer.get("decoder") or {}).get("type") != "ByteLevel"
    ):
        raise ModelError(
            f"edgeft writes byte-level BPE vocabularies as GGUF; this one is {model.get('type')} without byte level",
            where=folder / "tokenizer.json",
        )
    tokens, types = _tokens(tokenizer, int(config["vocab_size"]))
    settings = read_table(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    special = _special(folder, tokenizer, settings, config)
    add_bos, add_eos = _added(tokenizer, settings, tokens, special)
    return Vocabulary(
        pre=recognise(tokenizer),
        tokens=tokens,
        types=types,
        merges=[_merge(pair) for pair in model["merges"]],
        special=special,
        add_bos=add_bos,
        add_eos=add_eos,
        template=_template(folder, settings),
    )


def _tokens(tokenizer: Mapping[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Token texts and types by id, padded with unused ones up to the embedding's rows."""
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [UNUSED] * size
    by_id = {number: (text, NORMAL) for text, number in tokenizer["model"]["vocab"].items()}
    for added in tokenizer.get("added_tokens") or []:
        kind = CONTROL if added.get("special") or _looks_special(added["content"]) else USER_DEFINED
        by_id[added["id"]] = (added["content"], kind)
    if by_id and max(by_id) >= size:
        raise ModelError(f"the tokenizer has ids up to {max(by_id)}, the model's vocab_size is {size}")
    for number, (text, kind) in by_id.items():
        tokens[number], types[number] = text, kind
    if len(set(tokens)) != size:
        raise ModelError("two token ids have the same text, which llama.cpp cannot hold")
    return tokens, types


def _looks_special(text: str) -> bool:
    """Added tokens that are control tokens whatever their flag says, as llama.cpp's converter takes them."""
    return text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]") or (text.startswith("<|") and text.endswith("|>"))


def _merge(pair: Any) -> str:
    if isinstance(pair, str):
        return pair
    left, right = (part.replace(" ", "Ġ") for part in pair)
    return f"{left} {right}"


def _special(
    folder: Path, tokenizer: Mapping[str, Any], settings: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, int]:
    """Role -> id: by the tokenizer's settings, else by config.json; further end tokens as eot and eom."""
    ids = {added["content"]: int(added["id"]) for added in tokenizer.get("added_tokens") or []}
    ids = {**tokenizer["model"]["vocab"], **ids}
    found: dict[str, int] = {}
    for role in _SPECIAL:
        entry = settings.get(f"{role}_token")
        text = entry.get("content") if isinstance(entry, Mapping) else entry
        number = ids.get(text) if isinstance(text, str) else None
        if number is None:
            number = config.get(f"{role}_token_id")
        if isinstance(number, list):
            number = number[0] if number else None
        if isinstance(number, int) and 0 <= number < int(config["vocab_size"]):
            found[role] = number
    for role, number in zip(("eot", "eom"), _other_ends(folder, config, found.get("eos")), strict=False):
        found[role] = number
    return found


def _other_ends(folder: Path, config: Mapping[str, Any], eos: int | None) -> list[int]:
    path = folder / "generation_config.json"
    ends = read_table(path).get("eos_token_id") if path.is_file() else None
    ends = config.get("eos_token_id") if ends is None else ends
    ends = ends if isinstance(ends, list) else [ends]
    return [end for end in ends if isinstance(end, int) and end != eos and 0 <= end < int(config["vocab_size"])]


def _added(
    tokenizer: Mapping[str, Any], settings: Mapping[str, Any], tokens: list[str], special: Mapping[str, int]
) -> tuple[bool, bool]:
    """Whether encoding a text adds bos and eos: by the post-processor, else by the settings."""
    post = tokenizer.get("post_processor")
    if post is None:
        return settings.get("add_bos_token") is True, settings.get("add_eos_token") is True
    for part in post.get("processors", [post]):
        if part.get("type") == "TemplateProcessing":
            pieces = [(piece.get("SpecialToken") or {}).get("id") for piece in part.get("single") or []]
            first, last = (pieces[0], pieces[-1]) if len(pieces) > 1 else (None, None)
            return _is_role(first, "bos", tokens, special), _is_role(last, "eos", tokens, special)
    return False, False


def _is_role(text: str | None, role: str, tokens: list[str], special: Mapping[str, int]) -> bool:
    if text is None:
        return False
    if role not in special or tokens[special[role]] != text:
        raise ModelError(
            f"the tokenizer adds {text!r} to every text, which is not its {role} token: GGUF cannot say that"
        )
    return True


def _template(folder: Path, settings: Mapping[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((entry.get("template") for entry in found if entry.get("name") == "default"), None)
    return found if isinstance(found, str) else ""


def as_taught(vocabulary: Vocabulary, chat_template: str | None, stop_ids: Sequence[int]) -> Vocabulary:
    """The vocabulary with the template and the end tokens of training in place of the base's own. GGUF has three places
    for end tokens (eos, eot, eom); a `ModelError` when there are more."""
    special = dict(vocabulary.special)
    if stop_ids:
        if special.get("eos") not in stop_ids:
            special["eos"] = stop_ids[0]
        others = [number for number in stop_ids if number != special["eos"]]
        if len(others) > 2:
            raise ModelError(f"training ends answers at {len(stop_ids)} tokens; a GGUF file can name three")
        special = {role: number for role, number in special.items() if role not in ("eot", "eom")}
        special |= dict(zip(("eot", "eom"), others, strict=False))
    template = vocabulary.template if chat_template is None else chat_template
    return replace(vocabulary, special=special, template=template)


def put_vocabulary(vocabulary: Vocabulary, put: Put) -> None:
    """Hand the vocabulary to `put(key, value, kind)` under llama.cpp's keys."""
    put("tokenizer.ggml.model", "gpt2", "string")
    put("tokenizer.ggml.pre", vocabulary.pre, "string")
    put("tokenizer.ggml.tokens", vocabulary.tokens, "array")
    put("tokenizer.ggml.token_type", vocabulary.types, "array")
    put("tokenizer.ggml.merges", vocabulary.merges, "array")
    for role, number in vocabulary.special.items():
        put(f"tokenizer.ggml.{_KEYS.get(role, role)}_token_id", number, "uint32")
    put("tokenizer.ggml.add_bos_token", vocabulary.add_bos, "bool")
    put("tokenizer.ggml.add_eos_token", vocabulary.add_eos, "bool")
    if vocabulary.template:
        put("tokenizer.chat_template", vocabulary.template, "string")
