"""`data:` of a recipe: what the model learns from, and what it is judged on. Part of `edgeft.recipe.schema`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeft.recipe.names import DataType, Policy
from edgeft.recipe.section import Section, Text

Size = Annotated[float, Field(gt=0)]


class DatasetEntry(Section):
    """One source of rows."""

    path: Text = Field(
        description="a file (JSONL, JSON, CSV, TSV, Parquet; also .gz and .zst), a glob, a folder, all relative to the "
        "recipe, or a dataset's hub id; `PATH#500` takes 500 of its rows"
    )
    type: DataType | None = Field(None, description="the form of its rows; default: found out from the first row")
    fields: dict[Text, Text] | None = Field(
        None, description="names that the form expects -> names that the rows have, as `{prompt: question}`"
    )
    weight: Size = Field(
        1.0, description="how many times each training row counts: 0.5 takes half of them, 2 takes each twice"
    )
    split: Text | None = Field(
        None, description="of a folder or a hub dataset: which split; default the one that the entry stands for"
    )
    subset: Text | None = Field(None, description="of a folder or a hub dataset: which subset; default the only one")
    system: Text | None = Field(None, description="a system turn for the conversations that have none")


class ChecksSection(Section):
    """`data.checks:` what becomes of rows that a check finds: `error`, `drop` or `keep`; all are counted and told."""

    broken: Literal["error", "drop"] = Field("error", description="rows that cannot be read, or have not their form")
    empty_turns: Policy = Field("error", description="turns without content, conversations without an answer")
    role_order: Policy = Field("error", description="turns in an order that chat templates do not know")
    mixed_forms: Policy = Field("error", description="rows of another form than the rest of their file")
    characters: Policy = Field("error", description="control characters, and what is left of broken Unicode")
    secrets: Policy = Field("error", description="what looks like a private key, an access key or a token")
    special_tokens: Literal["error", "drop"] = Field(
        "error", description="contents with special tokens: the model would take them for the end of a turn"
    )
    template: Literal["error", "drop"] = Field(
        "error", description="rows that the chat template refuses, or that cannot be masked exactly"
    )
    untrained: Literal["error", "drop"] = Field("error", description="rows in which no token would be trained")
    duplicates: Policy = Field("keep", description="training rows that are equal to an earlier one")
    near_duplicates: Literal["error", "drop", "keep", "skip"] = Field(
        "keep", description="training rows that are nearly an earlier one (MinHash); `skip` does not look for them"
    )
    leakage: Policy = Field("drop", description="training rows that are validation or test rows as well")
    near_leakage: Literal["error", "drop", "keep", "skip"] = Field(
        "keep", description="training rows that are nearly validation or test rows; `skip` does not look for them"
    )
    too_long: Literal["error", "drop", "truncate"] = Field("drop", description="rows longer than sequence_len")
    imbalance: Literal["error", "keep"] = Field(
        "keep", description="classification: the rarest label has less than a twentieth of the most frequent one's rows"
    )


class DataSection(Section):
    """`data:` what the model learns from, and what it is judged on."""

    datasets: list[DatasetEntry] = Field(min_length=1, description="the training rows")
    validation: list[DatasetEntry] = Field([], description="rows that training is watched on")
    test: list[DatasetEntry] = Field([], description="rows that the models are judged on; never trained on")
    val_set_size: Size | None = Field(
        None, description="instead of `validation`: split off this many training rows, or this fraction when below 1"
    )
    test_set_size: Size | None = Field(
        None, description="instead of `test`: split off this many training rows, or this fraction when below 1"
    )
    checks: ChecksSection = Field(
        default_factory=lambda: ChecksSection(), description="what becomes of rows that a check finds"
    )
    near_threshold: float = Field(
        0.85, gt=0, le=1, description="rows are nearly equal from this share of common word sequences on (Jaccard)"
    )
    labels: list[Text] | None = Field(
        None,
        min_length=2,
        description="classification: the labels in order; default those of the training rows, sorted",
    )
    sequence_len: int = Field(
        1024, ge=8, description="tokens of the longest row; `checks.too_long` says what becomes of longer ones"
    )
    chat_template: Text | None = Field(
        None, description="a template's name, or a Jinja file, relative to the recipe; default the model's own"
    )
    roles_to_train: list[Literal["assistant", "user", "system", "tool"]] = Field(
        ["assistant"], min_length=1, description="whose turns are learnt; all other tokens are masked"
    )
    sample_packing: bool = Field(
        False, description="put several rows into one sequence (exact: rows do not see each other)"
    )
