"""SentencePiece-like BPE (Llama 2, Mistral, Phi-3, Gemma): llama.cpp's "llama" model, from tokenizer.json alone.

tokenizer.json ranks *pairs* to merge; llama.cpp merges any two neighbours whose text together is a token, best *score*
first. Both do the same if each token's score is minus the rank of the merge that completes it when its own text is
encoded. Why: as long as no merge crosses its ends, a stretch of text goes through the same states wherever it stands,
so the one pair that ever completes a token is the last of its own text; and two equal pairs go from the left in both.
What remains to be seen is that no token can be completed by llama.cpp only: one whose text ends as two pieces. Called
by `read`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.vocab.bpe import check_model
from edgeft.exporters.gguf.vocab.form import BYTE, CONTROL, NORMAL, SPACE_PREFIX, UNKNOWN, UNUSED, USER_DEFINED
from edgeft.exporters.gguf.vocab.merging import assemble, ranks_of
from edgeft.exporters.gguf.vocab.table import Form, Table
from edgeft.exporters.gguf.vocab.taken import free

SPACE = "▁"
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
_NO_DOUBLE = "the tokenizer puts a space before text only if there is none, llama.cpp also before a space"


def read(tokenizer: Mapping[str, Any], table: Table) -> Form:
    """A `ModelError` where llama.cpp would give other ids: normalisers and splits it does not have, no byte tokens (it
    would abort at a character outside the vocabulary), tokens that only llama.cpp would complete."""
    model = tokenizer["model"]
    check_model(model)
    check_bytes(model)
    spaces = _spaces(tokenizer)
    differences = _check_spaces(spaces, table)
    _set_types(table, model.get("unk_token"))
    ranks = ranks_of(model["merges"])
    differences += free(table, lambda text: len(assemble(text, ranks)[0]) == 1)
    once = spaces.prefix == "first"
    settings = () if once else ((SPACE_PREFIX, spaces.prefix != "never", "bool"),)
    return Form(
        "llama", scores=_scores(table, ranks), settings=settings, differences=differences, space_at_start_only=once
    )


def check_bytes(model: Mapping[str, Any]) -> None:
    """Both must fall back to bytes for characters outside the vocabulary, or neither can be expressed."""
    lacking = [text for text in _BYTES if text not in model["vocab"]]
    if lacking or not model.get("byte_fallback"):
        what = f"{len(lacking)} of the 256 byte tokens are missing" if lacking else "byte_fallback is off"
        raise ModelError(
            f"{what}; llama.cpp falls back to bytes for a character outside the vocabulary, and aborts without them"
        )


@dataclass(frozen=True)
class _Spaces:
    """What normaliser and pre-tokenizer do to spaces: whether they become ▁, how often one is put before text
    ("prepend": always; "always": if there is none; "first": at the start of the whole text; "never"), whether text is
    then split at them."""

    replaced: bool = False
    prefix: str = "never"
    split: bool = False
    digits: bool = False


def _check_spaces(spaces: _Spaces, table: Table) -> tuple[str, ...]:
    """A `ModelError` where llama.cpp would use tokens that the splits keep from being made; what it does otherwise."""
    if not spaces.replaced:
        raise ModelError("the tokenizer does not write spaces as ▁, and llama.cpp always does with this kind of model")
    normal = [text for text, kind in zip(table.tokens, table.types, strict=True) if kind == NORMAL]
    if spaces.split and any(SPACE in text[1:] for text in normal):
        raise ModelError(
            "the tokenizer splits text at spaces and yet has tokens with a space inside; llama.cpp would use them"
        )
    if spaces.digits and any(
        len(text) > 1 and any(c.isnumeric() for c in text) for text in normal if text not in _BYTES
    ):
        raise ModelError(
            "the tokenizer splits digits and yet has tokens with a digit and more; llama.cpp would use them"
        )
    if spaces.prefix == "prepend":
        for token in table.added:
            if token.normalized:
                raise ModelError(
                    f"the added token {token.content!r} is looked for after a space was put before the text "
                    "(normalized); GGUF cannot say that"
                )
    return (_NO_DOUBLE,) if spaces.prefix == "always" else ()


def _spaces(tokenizer: Mapping[str, Any]) -> _Spaces:
    replaced, prefix, split, digits = False, "never", False, False
    for part in parts_of(tokenizer.get("normalizer"), "normalizers"):
        if part.get("type") == "Replace" and part.get("content") == SPACE and part["pattern"] == {"String": " "}:
            replaced = True
        elif part.get("type") == "Prepend" and part.get("prepend") == SPACE:
            prefix = "prepend"
        else:
            raise ModelError(f"tokenizer.json normalises text with {part.get('type')!r}; llama.cpp does not")
    for part in parts_of(tokenizer.get("pre_tokenizer"), "pretokenizers"):
        kind = part.get("type")
        if kind == "Metaspace" and part.get("replacement") == SPACE and prefix == "never" and not digits:
            replaced, split = True, bool(part.get("split", True))
            prefix = scheme_of(part)
        elif kind == "Split" and replaced and part.get("pattern") == {"String": " "}:
            pass  # Gemma's: there are no spaces left to split at
        elif kind == "Digits" and part.get("individual_digits"):
            digits = True
        else:
            raise ModelError(f"tokenizer.json splits text with {kind!r} before the merges; llama.cpp does not")
    return _Spaces(replaced, prefix, split, digits)


def scheme_of(metaspace: Mapping[str, Any]) -> str:
    """ "always", "first" or "never"; older files say `add_prefix_space` instead."""
    return str(metaspace.get("prepend_scheme") or ("always" if metaspace.get("add_prefix_space", True) else "never"))


def parts_of(step: Any, key: str) -> list[Mapping[str, Any]]:
    """A normaliser or pre-tokenizer as a flat list of steps."""
    if step is None:
        return []
    if step.get("type") != "Sequence":
        return [step]
    return [inner for part in step[key] for inner in parts_of(part, key)]


def _set_types(table: Table, unknown: str | None) -> None:
    """Byte tokens and the unknown token have types of their own. Added tokens of ▁ alone (Gemma's) are ordinary: the
    merges make them, and llama.cpp would print the ▁ of a user-defined token as such."""
    for number, text in enumerate(table.tokens):
        if text in _BYTES:
            table.types[number] = BYTE
        elif text == unknown:
            table.types[number] = UNKNOWN
        elif table.types[number] == USER_DEFINED and set(text) == {SPACE}:
            table.types[number] = NORMAL


def _scores(table: Table, ranks: Mapping[tuple[str, str], int]) -> list[float]:
    """0, -1, -2, … in the order of the completing merges, then the tokens that no merge completes: SentencePiece's own
    numbers for a vocabulary that it made. What is matched before the merges has a score that nothing reads."""
    completing: dict[int, int] = {}
    others: list[int] = []
    scores = [{NORMAL: 0.0, BYTE: 0.0, UNKNOWN: 0.0, UNUSED: -10000.0}.get(kind, -1000.0) for kind in table.types]
    for number, (text, kind) in enumerate(zip(table.tokens, table.types, strict=True)):
        if kind == BYTE or (kind in (CONTROL, USER_DEFINED, UNKNOWN) and SPACE not in text):
            continue  # found in the text before anything is merged
        pieces, rank = assemble(text, ranks)
        if len(pieces) == 2:
            raise ModelError(
                f"the token {text!r} is not what the tokenizer's merges make ({pieces[0]!r} and {pieces[1]!r} stay "
                "apart); llama.cpp would merge them"
            )
        if len(pieces) == 1 and rank >= 0:
            completing[number] = rank
        elif kind == NORMAL:
            others.append(number)
    for order, number in enumerate([*sorted(completing, key=completing.__getitem__), *others]):
        scores[number] = -float(order)
    return scores
