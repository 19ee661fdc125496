"""The model card of the shipped base."""

from pathlib import Path

WHAT = {
    "reading": "a question about a passage of two to four facts; the answer stands in it",
    "arithmetic": "sums and differences of a number below 100 and a digit, round numbers, counting on; also as stories",
    "ordering": "sort three or four numbers, words, days, months; pick the extreme; reverse a list",
    "rewriting": "tense, passive, question, negation, replacing, swapping, removing, tidying up speech",
    "knowledge": "opposites, kinds of things, capitals, calendar and other small facts, asked in a new way",
    "extraction": "list what was asked for, in order; first, last, how many",
}
CARD = """---
license: apache-2.0
language: en
pipeline_tag: text-generation
library_name: transformers
tags: [llama, tiny, synthetic]
---

# sprout

A Llama-architecture language model of {parameters:,} parameters, made from nothing by `tools/make_base.py`. It is the base model
that edgeft ships, so that its quickstart and tests need no download. It follows ChatML and does a handful of small things
well; it knows nothing of the world beyond its corpus. For learning and testing, not for answering questions that matter.

| | |
|---|---|
| shape | {layers} layers, hidden {hidden}, {heads} heads of {head_dim} ({kv_heads} for keys and values), intermediate {intermediate}, tied embeddings |
| vocabulary | {vocab:,}: byte-level BPE with Qwen2's pre-tokenizer; `<|im_end|>` ends a turn, `<|endoftext|>` pads, no BOS |
| context | {context:,} positions (rows of the corpus are shorter than {block}) |
| weights | bfloat16 |
| training | {steps:,} steps of {step_tokens:,} tokens, {tokens:,} in all, each seen once; Muon and AdamW, float32, one CPU thread |

## What it does well

Greedy answers to held-out rows, exact match of the whole answer ({held} rows a family, `edgeft/evals/general/`).
No held-out problem (whatever its wording) is in the corpus, nor any held-out prompt; about a third of the people in the
held-out rows have names the corpus never uses. `make_base.py` proves both before it trains.

| family | what | exact match % | n |
|---|---|---|---|
{table}

## What it was trained on

A synthetic corpus, written by the grammars in `tools/base/skills/` while training reads it; no text of anybody's, no
personal data. Conversations in ChatML, with and without one of a dozen system prompts, one or several turns: the six
families above; turning notes into compact JSON and reading values out of it (people, trips, meetings, trades); everyday
sentences about rooms, devices and times and what is meant by them; little stories and sums as plain text. In
conversations only the assistant's words are learned. What the quickstart teaches (household commands to JSON tool calls)
is not in it: the base scores zero there.

## Limits

English only. Numbers up to two digits. Names it has never seen are sometimes copied wrongly. Anything else is beyond it.
"""


def write_card(out: Path, chosen, model, scores: dict[str, float]) -> None:
    """Write README.md with front matter; `chosen` are the pipeline's settings, `model` the trained model."""
    rows = [f"| {family} | {what} | {scores[family]:.1f} | {chosen.held_rows} |" for family, what in WHAT.items()]
    size, plan = chosen.size, chosen.plan
    card = CARD.format(
        parameters=sum(p.numel() for p in model.parameters()),
        layers=size.layers,
        hidden=size.hidden,
        heads=size.heads,
        head_dim=size.hidden // size.heads,
        kv_heads=size.kv_heads,
        intermediate=size.intermediate,
        vocab=model.config.vocab_size,
        context=size.context,
        block=plan.block,
        steps=plan.steps,
        step_tokens=plan.batch * plan.block,
        tokens=plan.steps * plan.batch * plan.block,
        held=chosen.held_rows,
        table="\n".join(rows),
    )
    (out / "README.md").write_text(card, encoding="utf-8")
