"""The model card of the shipped base."""

from pathlib import Path

WHAT = {
    "reading": "a question about a passage of two or three facts; the answer stands in it",
    "arithmetic": "sums and differences of a number up to ten and a digit, doubles, halves, the number after, ten more",
    "ordering": "sort three numbers, days or months; pick the extreme; reverse a list",
    "rewriting": "tense, passive, question, negation, replacing, swapping, removing, tidying up speech",
    "knowledge": "opposites, kinds of things, capitals, calendar and other small facts",
    "extraction": "list the names, numbers or things of a kind in a sentence; name the first or last of a list",
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
