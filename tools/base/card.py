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
TEMPLATE = Path(__file__).with_name("card.md")


def write_card(out: Path, chosen, model, scores: dict[str, float]) -> None:
    """Write README.md with front matter; `chosen` are the pipeline's settings, `model` the trained model."""
    rows = [f"| {family} | {what} | {scores[family]:.1f} | {chosen.held_rows} |" for family, what in WHAT.items()]
    size, plan = chosen.size, chosen.plan
    card = TEMPLATE.read_text(encoding="utf-8").format(
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
