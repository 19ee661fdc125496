"""What a recipe may say: one pydantic model per section, nothing unknown allowed, nothing silently converted.

`edgeft.recipe.load` fills them from YAML and gives every fault its line; the stages' `Params` are built from them by
`edgeft.stages.targets`. docs/recipes.md is written from the descriptions here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, PrivateAttr, Tag, model_validator

from edgeft.errors import Location
from edgeft.recipe import gates
from edgeft.recipe.names import (
    ASKED_OF_HEADS,
    BUILTIN_FAMILIES,
    HARNESS_METRICS,
    HARNESS_PREFIX,
    HEADS,
    KIND_METRICS,
    LOSS,
    DataType,
    ExportName,
    MergeBase,
    Metric,
    Policy,
    SuiteKind,
    TensorType,
)
from edgeft.recipe.section import Name, Section, Text
from edgeft.recipe.training import TrainSection

Size = Annotated[float, Field(gt=0)]
ImatrixFrom = Annotated[
    Annotated[bool, Tag("flag")] | Annotated[Text, Tag("path")],
    Discriminator(lambda value: "path" if isinstance(value, str) else "flag"),
]


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


class Phase(TrainSection):
    """`train:` itself, or one of its phases, the last of which ships."""

    name: Name | None = Field(None, description="of a phase: its target is train.NAME")
    previous: Literal["carry", "merge"] = Field(
        "carry",
        description="of a later phase: go on with the adapter of the phase before, or fold it in and train a new one",
    )
    data: DataSection | None = Field(None, description="of a phase: rows of its own; default the recipe's `data:`")


class MergeSection(Section):
    """`merge:` true, false, or these keys. `merge_base` holds for every export too, written or not."""

    write: bool = Field(True, description="write the merged checkpoint as safetensors; `merge: true` is this")
    merge_base: MergeBase | None = Field(
        None,
        description="what the adapter is folded into: the 4-bit base dequantized (default for qlora: it is what was "
        "trained), the pristine 16-bit one (default for lora), or, with auto, the one that is nearer to the trained "
        "model on the validation rows, measured for the merged checkpoint and for each quantized file",
    )


class JudgeSection(Section):
    """`judge:` another model that judges answers, behind an endpoint with OpenAI's chat interface."""

    base_url: Text = Field(description="where it is, such as `http://localhost:8000/v1`")
    model: Text = Field(description="its name there")
    prompt: Text | None = Field(None, description="what it is asked, with {question}, {expected} and {answer}")
    scale: float = Field(10, gt=0, description="the number that it says of a perfect answer")
    max_tokens: int = Field(256, ge=1, description="tokens of its answer")
    api_key_env: Text | None = Field(
        None, description="the environment variable that holds its key, which is written nowhere"
    )


class Suite(Section):
    """One set of questions and how the answers are scored."""

    rows: Text = Field(
        description="`test`, `validation`, `builtin:general`, `lm-eval:TASK`, or a file of rows, relative to the recipe"
    )
    type: DataType | None = Field(None, description="of a file of conversations: the form of its rows")
    kind: SuiteKind = Field(
        "generation",
        description="what is asked: an answer, the likeliest of several, the better of two, how likely a text is, a "
        "head's label (the default of objective: classification; of objective: reward the better of two)",
    )
    metrics: list[Metric] = Field(["exact_match"], min_length=1, description="how answers are scored; loss always is")
    max_tokens: int = Field(128, ge=1, description="tokens of the longest answer")
    limit: int | None = Field(None, ge=1, description="only this many rows, spread evenly")
    system: Text | None = Field(None, description="a system turn for rows that have none")
    few_shot: int = Field(0, ge=0, description="answered examples before each question")
    few_shot_rows: Text | None = Field(
        None, description="`train`, `validation`, `test` or a file they are taken from; default the suite's own rows"
    )
    few_shot_seed: int = Field(0, ge=0, description="which ones")
    stop: list[Text] = Field([], description="texts that end an answer")
    chat: bool = Field(True, description="ask through the model's chat template; false: the plain texts of the turns")
    pattern: Text | None = Field(None, description="of the metric regex; {expected} in it is the expected answer")
    json_schema: Text | None = Field(None, description="a JSON Schema file, of the metrics json_valid and json_fields")
    judge: JudgeSection | None = Field(None, description="of the metric judge")
    window: int | None = Field(None, ge=2, description="of perplexity: tokens read at once; default the whole context")
    overlap: int = Field(1, ge=1, description="of perplexity: tokens of the text before that each window reads again")

    @model_validator(mode="before")
    @classmethod
    def _default_metrics(cls, values: Any) -> Any:
        if isinstance(values, dict) and "metrics" not in values and values.get("kind") in KIND_METRICS:
            return {**values, "metrics": list(KIND_METRICS[values["kind"]])}
        return values

    def of_head(self, objective: str) -> Suite:
        """The same suite asking what the head of that objective can tell, where it does not say what it asks for."""
        if "kind" in self.model_fields_set or self.task is not None:
            return self
        kind, metrics = ASKED_OF_HEADS[objective]
        wanted = self.metrics if "metrics" in self.model_fields_set else list(metrics)
        return self.model_copy(update={"kind": kind, "metrics": wanted})

    @property
    def task(self) -> str | None:
        """The lm-eval task that has the rows, if one does."""
        return self.rows.removeprefix(HARNESS_PREFIX) if self.rows.startswith(HARNESS_PREFIX) else None


class EvalSection(Section):
    """`eval:` what base and tuned model are asked."""

    suites: dict[Name, Suite] = Field(min_length=1, description="suites by name")


class ProbeSection(Section):
    """`probe:` what every tune is asked besides the suites: did it forget, did it learn by heart?"""

    rows: int = Field(
        64,
        ge=0,
        description="training rows, and as many validation rows, that are completed: which are known by heart",
    )
    drift: bool = Field(True, description="how far the tuned model is from the base on packaged neutral texts")


class GateSection(Section):
    """`gate:` a list of lines, or these keys. What must hold before anything is exported."""

    checks: list[Text] = Field([], description="lines such as `task.exact_match >= 0.90`")
    undecided: Literal["estimate", "pass", "fail"] = Field(
        "pass",
        description="what a check with too few rows to tell does: pass (what is told of it stops nothing), fail (only "
        "what is proven ships), or go by the estimate",
    )


class ExportOptions(Section):
    """Options of one export: those of quantized GGUF (of plain ones only `max_shard_size`), those of ONNX (the scales
    of quantized ones only), and `with_base` of adapters; what is left out is the exporter's choice."""

    imatrix: ImatrixFrom | None = Field(
        None, description="quantize by an importance matrix: true computes one of the training rows; or a file of one"
    )
    tensor_types: dict[Text, TensorType] | None = Field(
        None, description="types of single tensors, by a regular expression found in their name; the first that is wins"
    )
    token_embedding_type: TensorType | None = Field(None, description="type of the token embeddings")
    output_tensor_type: TensorType | None = Field(
        None, description="type of the output layer; in tied models that is the embeddings"
    )
    max_shard_size: Text | None = Field(None, description="split a larger GGUF file into shards, as 2GB or 500MB")
    quantizer: Literal["auto", "fast", "ggml"] | None = Field(
        None, description="of GGUF, who quantizes: auto takes the fast kernels where they work; the bytes are the same"
    )
    backend: Literal["genai", "optimum"] | None = Field(
        None, description="of ONNX: whose graph: onnxruntime-genai's (default), or that of Hugging Face's optimum"
    )
    builder: Literal["streamed", "stock", "auto"] | None = Field(
        None,
        description="ONNX: streamed (default) in the memory of the largest weight; stock merges to disk and holds all",
    )
    device: Literal["cpu", "mobile", "web"] | None = Field(
        None, description="ONNX: what the file is for; chooses provider and block_size; default cpu"
    )
    provider: Literal["cpu", "cuda", "dml", "webgpu"] | None = Field(
        None, description="ONNX: the execution provider that the graph is made for"
    )
    adapter: Literal["merged", "apart", "only"] | None = Field(
        None,
        description="ONNX: merged (default) into the weights; apart, a file beside the base's graph; only that file",
    )
    layout: Literal["genai", "transformers.js"] | None = Field(
        None, description="ONNX: transformers.js also lays the files out as that library looks for them"
    )
    block_size: Literal[16, 32, 64, 128] | None = Field(
        None, description="weights that share one scale; default 32, of device mobile 64"
    )
    symmetric: bool | None = Field(None, description="ONNX: false adds a zero point to each scale; default true")
    accuracy_level: Literal[1, 2, 3, 4] | None = Field(
        None, description="what activations are rounded to in quantized products: 4 is int8 (default), 1 float32"
    )
    algorithm: Literal["auto", "rtn", "default", "k_quant"] | None = Field(
        None, description="how scales are chosen: by rounding, or by a search (k_quant: nearer, slower); default auto"
    )
    head: Literal["int8", "same"] | None = Field(None, description="of int4: the output layer; default int8")
    layers: Literal["same", "int8"] | None = Field(
        None, description="of int4: the most sensitive of the other layers; default same"
    )
    embeddings: Literal["quantized", "float"] | None = Field(
        None, description="of int4: the embeddings too, or float32; default quantized"
    )
    max_length: int | None = Field(None, ge=1, description="tokens a generation may reach by default")
    with_base: Literal["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"] | None = Field(
        None, description="of lora: write the base that the adapter goes on beside it, as GGUF of this type"
    )


class VerifySection(Section):
    """`verify:` how each exported file is compared with the trained model. It always is."""

    rows: Literal["train", "validation", "test"] | None = Field(
        None, description="the split whose rows are compared token by token; default test, else validation, else train"
    )
    limit: int | None = Field(64, ge=1, description="only this many rows, spread evenly; null is all")
    suites: list[Name] | None = Field(
        None, description="suites run again on the file itself; default those on the recipe's own rows"
    )


class ReportSection(Section):
    """`report:` the HTML page."""

    title: Text | None = Field(None, description="its title; default the recipe's name")
    samples: int = Field(12, ge=0, description="sample answers shown side by side")


def _merge_form(value: Any) -> Any:
    return {"write": value} if isinstance(value, bool) else value


def _gate_form(value: Any) -> Any:
    return {"checks": value} if isinstance(value, list) else value


def _export_form(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is named twice")
        return {name: ExportOptions() for name in value}
    if isinstance(value, dict):
        return {name: {} if options is None else options for name, options in value.items()}
    return value


class Recipe(Section):
    """A whole recipe. It remembers the file it came from: see `path`, `location_of`."""

    base_model: Text = Field(description="`builtin:NAME`, a folder (relative to the recipe), or a hub id")
    seed: int = Field(0, ge=0, lt=2**32, description="of splits, initial adapter weights and the order of rows")
    data: DataSection = Field(description="what the model learns from, and what it is judged on")
    train: Phase = Field(default_factory=lambda: Phase(), description="how the adapter is trained, or a list of phases")
    earlier_phases: list[Phase] = Field([], description="filled from a list in `train:`; `train` is the last of it")
    merge: Annotated[MergeSection, BeforeValidator(_merge_form)] = Field(
        default_factory=lambda: MergeSection(write=False), description="whether and from which base the model is merged"
    )
    eval: EvalSection | None = Field(None, description="what base and tuned model are asked")
    probe: ProbeSection = Field(
        default_factory=lambda: ProbeSection(), description="what every tune is asked besides the suites"
    )
    gate: Annotated[GateSection, BeforeValidator(_gate_form)] = Field(
        default_factory=lambda: GateSection(), description="what must hold before anything is exported"
    )
    export: Annotated[dict[ExportName, ExportOptions], BeforeValidator(_export_form)] = Field(
        default_factory=dict, description="files to ship: a list of names, or names with options"
    )
    verify: VerifySection = Field(default_factory=lambda: VerifySection(), description="how files are compared")
    report: ReportSection = Field(default_factory=lambda: ReportSection(), description="the HTML page")

    _path: Path = PrivateAttr(default=Path("recipe.yaml"))
    _locations: Mapping[str, Location] = PrivateAttr(default_factory=dict)

    @property
    def path(self) -> Path:
        """The recipe's file, absolute."""
        return self._path

    @property
    def folder(self) -> Path:
        """The folder that paths in the recipe are relative to."""
        return self._path.parent

    @property
    def name(self) -> str:
        """The recipe's name: its file name without the suffix."""
        return self._path.stem

    def location_of(self, key: str) -> Location:
        """Where a key such as "data.datasets.0.path" has its value: file:line:column, or the `--set` that gave it. The
        nearest enclosing key when the recipe does not say it."""
        while key:
            if key in self._locations:
                return self._locations[key]
            key = key.rpartition(".")[0]
        return self._locations.get("", Location(str(self._path)))

    def resolve(self, path: str) -> Path:
        """A path written in the recipe, made absolute (a leading ~ is the home folder)."""
        return self.folder / Path(path).expanduser()

    @property
    def computes_imatrix(self) -> bool:
        """Whether an export asks for an importance matrix of the training rows."""
        return any(options.imatrix is True for options in self.export.values())

    @property
    def phases(self) -> list[Phase]:
        """All phases of the training, in order: usually one."""
        return [*self.earlier_phases, self.train]

    @property
    def data_sections(self) -> list[tuple[str, str, DataSection, str]]:
        """(target, key, section, objective) of each data section: the recipe's own, and those of phases that have one.
        The first phase that trains on a section decides which objective its rows must serve."""
        phases = self.phases
        readers = [phase.objective for phase in phases if phase.data is None]
        found: list[tuple[str, str, DataSection, str]] = [("data", "data", self.data, readers[0] if readers else "sft")]
        for index, phase in enumerate(phases):
            if phase.data is not None:
                place = "train" if index == len(phases) - 1 else f"earlier_phases.{index}"
                found.append((f"data.{phase.name}", f"{place}.data", phase.data, phase.objective))
        return found

    @property
    def has_head(self) -> bool:
        """Whether what is trained ends in a head for labels or rewards: it writes no answers."""
        return self.train.objective in HEADS

    @property
    def merge_base(self) -> MergeBase:
        """What the adapter is folded into, decided: the file that ships is the model that was trained."""
        return self.merge.merge_base or ("dequantized" if self.train.adapter == "qlora" else "pristine")

    @property
    def suites(self) -> dict[str, Suite]:
        """The suites of `eval:`; without that section one, `task`, on the test rows when there are any. Of a head they
        ask what it can tell (labels, the better of two answers) unless they say otherwise."""
        found = {"task": Suite(rows="test")} if self.has_split("test") else {}
        if self.eval is not None:
            found = self.eval.suites
        if self.has_head:
            return {name: suite.of_head(self.train.objective) for name, suite in found.items()}
        return found

    def has_split(self, split: str) -> bool:
        """Whether the data section gives a "validation" or "test" split."""
        data = self.data
        if split == "validation":
            return bool(data.validation) or data.val_set_size is not None
        return bool(data.test) or data.test_set_size is not None

    @property
    def gates(self) -> list[gates.Gate]:
        """The parsed gate lines (a loaded recipe's are known to parse)."""
        metrics = suite_metrics(self.suites)
        return [gates.parse(line, metrics, list(self.export)) for line in self.gate.checks]


def suite_metrics(suites: Mapping[str, Suite]) -> dict[str, tuple[str, ...]]:
    """Suite name -> metrics that gates may name, loss included; also "suite/family" for families of packaged rows."""
    found: dict[str, tuple[str, ...]] = {}
    for name, suite in suites.items():
        metrics = HARNESS_METRICS if suite.task else (*suite.metrics, LOSS)
        found[name] = metrics
        found |= {f"{name}/{family}": metrics for family in BUILTIN_FAMILIES.get(suite.rows, ())}
    return found
