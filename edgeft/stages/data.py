"""The `data` stage: dataset files in, the `dataset` artifact out. Joins `edgeft.data` and the base's tokenizer."""

from __future__ import annotations

from pydantic import Field

from edgeft.artifact import Outcome
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.schema import DataSection, DatasetEntry

VERSION = 1


class Params(DataSection):
    """The recipe's `data:` section and the seed of the splits."""

    seed: int = Field(0, description="of the splits")


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    """Read, split, tokenize and mask the rows.

    sources   base (model); datasets.N, validation.N, test.N (files); chat_template (file), when the recipe names one
    """
    from edgeft.data import prepare, store
    from edgeft.data.rows import Entry
    from edgeft.data.statistics import totals
    from edgeft.files import digest_text
    from edgeft.models.tokenizer import generation_stop_ids, load_tokenizer, template_of

    def entries(key: str, listed: list[DatasetEntry]) -> list[Entry]:
        return [Entry(inputs.sources[f"{key}.{i}"], entry.type, entry.path) for i, entry in enumerate(listed)]

    base = inputs.sources["base"]
    own = inputs.sources["chat_template"].read_text(encoding="utf-8") if params.chat_template else None
    tokenizer = load_tokenizer(base, chat_template=own)
    template = template_of(tokenizer, base)
    stops = generation_stop_ids(base)
    plan = prepare.Plan(
        datasets=entries("datasets", params.datasets),
        validation=entries("validation", params.validation),
        test=entries("test", params.test),
        val_set_size=params.val_set_size,
        test_set_size=params.test_set_size,
        sequence_len=params.sequence_len,
        roles=params.roles_to_train,
        seed=params.seed,
        packing=params.sample_packing,
    )
    prepared = prepare.prepare(plan, tokenizer, stop_ids=stops, listen=work.listen)
    stop_ids = sorted({*stops, *prepared.ends})
    stats = {
        **prepared.stats,
        "stop_ids": stop_ids,
        "chat_template": own,
        "chat_template_digest": digest_text(template),
    }
    store.write(work.folder, prepared.examples, stats)
    for message in prepare.warnings_of(prepared, stops, tokenizer):
        work.warn(message)
    facts = {
        **totals(prepared.stats["splits"]),
        "leakage": {split: found["rows"] for split, found in prepared.stats["leakage"].items()},
        "sequence_len": params.sequence_len,
        "stop_ids": stop_ids,
        "end_of_turn_ids": list(prepared.ends),
    }
    return Outcome("dataset", facts=facts)
