"""tokenizer.json as transformers opens it, which is what training sees: some tokenizer classes build their own
normaliser and splits around the file's vocabulary, and the flags of added tokens are those of tokenizer_config.json.
Used by `read`; tests compare it with AutoTokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeft.exporters.gguf.vocab.added import vocabulary_of
from edgeft.exporters.gguf.vocab.bpe import is_byte_level
from edgeft.exporters.gguf.vocab.pretokenizer import QWEN2, QWEN35
from edgeft.exporters.gguf.vocab.sentencepiece import SPACE
from edgeft.exporters.gguf.vocab.special import ROLES, token_text

# Model types for which transformers reads tokenizer.json as it is unless the tokenizer class is the one registered here
# (None: always as it is). Others follow the class named in tokenizer_config.json.
_AS_IT_IS = frozenset(
    {
        "mistral", "mixtral", "phi3", "phimoe", "granite", "granitemoe", "olmo2", "olmo3", "stablelm", "glm", "glm4",
        "minimax_m2", "ernie4_5", "internlm3", "smolvlm", "nemotron", "arctic", "minicpm3",
    }
)  # fmt: skip
_CLASS_OF_TYPE = {
    "qwen2": "Qwen2Tokenizer", "qwen2_moe": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer", "qwen3_moe": "Qwen2Tokenizer",
    "qwen3_5": "Qwen3_5Tokenizer", "gemma": "GemmaTokenizer", "gemma2": "GemmaTokenizer", "gemma3": "GemmaTokenizer",
    "gemma3_text": "GemmaTokenizer", "gpt2": "GPT2Tokenizer", "phi": "GPT2Tokenizer", "starcoder2": "GPT2Tokenizer",
    "gpt_neox": "GPTNeoXTokenizer", "olmo": "GPTNeoXTokenizer", "cohere": "CohereTokenizer",
    "cohere2": "CohereTokenizer",
}  # fmt: skip
# Classes named wrongly in published files: for these types the registered class is taken all the same.
_REGISTERED_WINS = frozenset({"qwen2", "qwen3_5"})


def opened(tokenizer: Mapping[str, Any], settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The tokenizer's table with the steps and flags that transformers gives it."""
    found = {**tokenizer, "added_tokens": _added(tokenizer, settings)}
    build = _BUILDERS.get(_class(tokenizer, settings, config))
    if build is not None:
        found |= build(settings)
        found["model"] = {**tokenizer["model"], "ignore_merges": False}
    return found


def _class(tokenizer: Mapping[str, Any], settings: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The tokenizer class without its "Fast"; "" for one that reads the file as it is."""
    model_type = str(config.get("model_type") or "")
    registered = _CLASS_OF_TYPE.get(model_type)
    named = str(settings.get("tokenizer_class") or config.get("tokenizer_class") or registered or "").removesuffix(
        "Fast"
    )
    if named == "LlamaTokenizer" and is_byte_level(tokenizer) and model_type not in _REGISTERED_WINS:
        return ""
    if model_type in _AS_IT_IS:
        return ""
    return registered if registered and model_type in _REGISTERED_WINS else named


def _added(tokenizer: Mapping[str, Any], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Flags of tokenizer_config.json take the place of tokenizer.json's; tokens with a role are special and looked for
    in the text as it is."""
    decoder = settings.get("added_tokens_decoder") or {}
    with_role = {text for role in ROLES if (text := token_text(settings, role))}
    for entry in settings.get("additional_special_tokens") or settings.get("extra_special_tokens") or ():
        with_role.add(entry["content"] if isinstance(entry, Mapping) else entry)
    found = []
    for entry in tokenizer.get("added_tokens") or []:
        entry = {**entry, **(decoder.get(str(entry["id"])) or {})}
        if entry["content"] in with_role:
            entry |= {"special": True}
            if not isinstance(decoder.get(str(entry["id"])), Mapping):
                entry |= {"normalized": False}
        found.append(entry)
    vocab, named = vocabulary_of(tokenizer["model"]), {entry["content"] for entry in found}
    for text in sorted((with_role - named) & vocab.keys()):
        found.append({"id": vocab[text], "content": text, "special": True, "normalized": False})
    return found


def _byte_level(add_prefix_space: bool = False, use_regex: bool = True) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def _llama(settings: Mapping[str, Any]) -> dict[str, Any]:
    prefix = settings.get("add_prefix_space")
    scheme = "never" if prefix is not None and not prefix else "always" if settings.get("legacy", False) else "first"
    pre = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": False}
    return {"normalizer": None, "pre_tokenizer": pre}


def _gemma(settings: Mapping[str, Any]) -> dict[str, Any]:
    normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    pre = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    return {"normalizer": normalizer, "pre_tokenizer": pre}


def _gpt2(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"normalizer": None, "pre_tokenizer": _byte_level(bool(settings.get("add_prefix_space")))}


def _gpt_neox(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"normalizer": {"type": "NFC"}, "pre_tokenizer": _byte_level(bool(settings.get("add_prefix_space")))}


def _cohere(settings: Mapping[str, Any]) -> dict[str, Any]:
    steps = [{"type": "Digits", "individual_digits": True}, _byte_level(bool(settings.get("add_prefix_space")))]
    return {"normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}


def _split_by(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    steps = [split, _byte_level(use_regex=False)]
    return {"normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}


_BUILDERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "LlamaTokenizer": _llama,
    "GemmaTokenizer": _gemma,
    "GPT2Tokenizer": _gpt2,
    "GPTNeoXTokenizer": _gpt_neox,
    "CohereTokenizer": _cohere,
    "Qwen2Tokenizer": lambda settings: _split_by(QWEN2),
    "Qwen3_5Tokenizer": lambda settings: _split_by(QWEN35),
}
