"""The `data` stage: dataset files in, the `dataset` artifact out. Joins `edgeft.data` and the base's tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgeft.artifact import Outcome
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.dataset import DataSection, DatasetEntry

if TYPE_CHECKING:
    from edgeft.data.rows import Entry

VERSION = 3


class Params(DataSection):
    """The recipe's `data:` section and the seed of the splits."""

    seed: int = Field(0, description="of the splits and samples")
    objective: str = Field("sft", description="of the training: it says which rows are needed")


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    """Read, check, split, tokenize and mask the rows.

    sources   base (model); datasets.N, validation.N, test.N (files, or rows); chat_template (file), when the recipe
              names one
    """
    from edgeft.data import prepare
    from edgeft.data.statistics import totals
    from edgeft.files import digest_text
    from edgeft.models.tokenizer import generation_stop_ids, load_tokenizer, template_of

    base = inputs.sources["base"]
    own = _template(params, inputs)
    tokenizer = load_tokenizer(base, chat_template=own)
    template = template_of(tokenizer, base) if own or tokenizer.chat_template or _needs_template(params) else ""
    stops = generation_stop_ids(base)
    plan = prepare.Plan(
        datasets=_entries("train", "datasets", params.datasets, inputs),
        validation=_entries("validation", "validation", params.validation, inputs),
        test=_entries("test", "test", params.test, inputs),
        val_set_size=params.val_set_size,
        test_set_size=params.test_set_size,
        objective=params.objective,
        checks=params.checks.model_dump(),
        near_threshold=params.near_threshold,
        labels=params.labels,
        sequence_len=params.sequence_len,
        roles=params.roles_to_train,
        seed=params.seed,
        packing=params.sample_packing,
    )
    more: dict[str, Any] = {
        "chat_template": own,
        "chat_template_digest": digest_text(template) if template else None,
    }
    prepared = prepare.prepare(
        plan, tokenizer, work.folder, stop_ids=stops, scratch=work.scratch, more=more, listen=work.listen
    )
    for message in prepare.warnings_of(prepared, stops, tokenizer):
        work.warn(message)
    facts = {
        **totals(prepared.stats["splits"]),
        "leakage": {split: found["rows"] for split, found in prepared.stats["leakage"].items()},
        "rows_form": prepared.stats["rows_form"],
        "sequence_len": params.sequence_len,
        "stop_ids": prepared.stats["stop_ids"],
        "end_of_turn_ids": list(prepared.ends),
    }
    return Outcome("dataset", facts=facts)


def _entries(split: str, key: str, listed: list[DatasetEntry], inputs: Inputs) -> list[Entry]:
    from edgeft.data.rows import Entry
    from edgeft.datafiles import without_sample

    return [
        Entry(
            path=inputs.sources[f"{key}.{number}"],
            form=entry.type,
            name=without_sample(entry.path)[0],
            fields=entry.fields or {},
            sample=without_sample(entry.path)[1],
            weight=entry.weight,
            split=entry.split or split,
            subset=entry.subset,
            system=entry.system,
        )
        for number, entry in enumerate(listed)
    ]


def _template(params: Params, inputs: Inputs) -> str | None:
    """The text of the template that the recipe names, or of its file; None for the model's own."""
    from edgeft.data.templates import text_of
    from edgeft.recipe.names import TEMPLATES

    if params.chat_template is None:
        return None
    if params.chat_template in TEMPLATES:
        return text_of(params.chat_template)
    return inputs.sources["chat_template"].read_text(encoding="utf-8")


def _needs_template(params: Params) -> bool:
    """Whether any row is a conversation: raw texts and texts with a label need no template."""
    return params.objective not in ("cpt", "classification")
