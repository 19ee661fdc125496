"""What a recipe may say: one pydantic model per section, nothing unknown allowed, nothing silently converted.

`edgeft.recipe.load` fills them from YAML and gives every fault its line; the stages' `Params` are built from them by
`edgeft.stages.targets`. docs/recipes.md is written from the descriptions here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, PrivateAttr

from edgeft.errors import Location
from edgeft.recipe import gates
from edgeft.recipe.dataset import DataSection
from edgeft.recipe.judging import EvalSection, Gates, GateSection, ProbeSection, Suite, suite_metrics
from edgeft.recipe.names import HEADS, MergeBase
from edgeft.recipe.section import Name, Section, Text
from edgeft.recipe.shipping import Exports, Merge, MergeSection, ReportSection, VerifySection
from edgeft.recipe.training import TrainSection


class Phase(TrainSection):
    """`train:` itself, or one of its phases, the last of which ships."""

    name: Name | None = Field(None, description="of a phase: its target is train.NAME")
    previous: Literal["carry", "merge"] = Field(
        "carry",
        description="of a later phase: go on with the adapter of the phase before, or fold it in and train a new one",
    )
    data: DataSection | None = Field(None, description="of a phase: rows of its own; default the recipe's `data:`")


class Recipe(Section):
    """A whole recipe. It remembers the file it came from: see `path`, `location_of`."""

    base_model: Text = Field(description="`builtin:NAME`, a folder (relative to the recipe), or a hub id")
    added_tokens: list[Text] = Field(
        [], description="tokens that the base model does not have: added to its vocabulary, their rows trained"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of splits, initial adapter weights and the order of rows")
    data: DataSection = Field(description="what the model learns from, and what it is judged on")
    train: Phase = Field(default_factory=lambda: Phase(), description="how the adapter is trained, or a list of phases")
    earlier_phases: list[Phase] = Field([], description="filled from a list in `train:`; `train` is the last of it")
    merge: Merge = Field(
        default_factory=lambda: MergeSection(write=False), description="whether and from which base the model is merged"
    )
    eval: EvalSection | None = Field(None, description="what base and tuned model are asked")
    probe: ProbeSection = Field(
        default_factory=lambda: ProbeSection(), description="what every tune is asked besides the suites"
    )
    gate: Gates = Field(default_factory=lambda: GateSection(), description="what must hold before anything is exported")
    export: Exports = Field(default_factory=dict, description="files to ship: a list of names, or names with options")
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
    def is_probed(self) -> bool:
        """Whether the tune is asked what it forgot and learnt by heart; a head has no answers to tell it by."""
        return not self.has_head and bool(self.probe.rows or self.probe.drift)

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
