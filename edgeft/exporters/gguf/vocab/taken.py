"""Texts that llama.cpp takes for special tokens wherever a vocabulary has them, whatever their type. Used by `bpe` and
`sentencepiece`.

Qwen's vocabulary, for one, has an ordinary token "</s>" that no text leads to, as its parts are always split. llama.cpp
would find it in any text that holds these characters, and end an answer there.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeft.exporters.gguf.vocab.form import NORMAL, UNUSED
from edgeft.exporters.gguf.vocab.table import Table

TAKEN = frozenset(
    {
        # ends of turns and of text
        "</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>",
        "<end_of_turn>", "<turn|>", "<|return|>", "<|call|>", "<|calls|>", "<|flush|>", "<|tool_response>", "<EOT>",
        "_<EOT>", "[EOT]", "[EOS]", "[e~[", "<end_of_utterance>", "<｜end▁of▁sentence｜>",
        # to fill in the middle
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>",
        "<|prefix|>", "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
        "<|code_suffix|>", "<|suffix|>", "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>",
        "▁<MID>", "<|code_middle|>", "<|middle|>", "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]",
        "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
        # shown in any case
        "<|channel|>", "<|message|>", "<|start|>", "<|constrain|>",
    }
)  # fmt: skip


def free(table: Table, reached: Callable[[str], bool]) -> tuple[str, ...]:
    """Write ordinary tokens of such texts as unused ones if no text leads to them (`reached`); of the others, say what
    llama.cpp does."""
    differences = []
    for number, (text, kind) in enumerate(zip(table.tokens, table.types, strict=True)):
        if kind != NORMAL or text not in TAKEN:
            continue
        if reached(text):
            differences.append(f"llama.cpp takes the ordinary token {text!r} for a special one, wherever it stands")
        else:
            table.tokens[number], table.types[number] = f"[PAD{number}]", UNUSED
    return tuple(differences)
