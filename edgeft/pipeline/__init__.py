"""The make engine: targets in, artifacts out; what changed is built again, with the reason why. Used by `edgeft.cli`.

    plan(targets, project, options) -> list[Planned]           what would run, and why (writes nothing)
    run(targets, project, options, events) -> RunResult        the same decisions, carried out; `.exit_code`
    run_stage(row, params, out, name=…) -> Artifact            one stage into a folder, without a recipe or a store
    list_runs(root), read_run(root, id), diff_runs(a, b)       the records of runs
    collect(root, keep_days=…, dry_run=…) -> Garbage           remove what nothing refers to

`Project` says where and what there is, `Options` what the user asks; `Event`s tell what happens while it happens.
The engine knows no stage by name: it is handed the table.
"""

from edgeft.pipeline.build import run_stage
from edgeft.pipeline.collect import Garbage, collect
from edgeft.pipeline.events import Event, EventKind, Events, Reason, Status
from edgeft.pipeline.graph import Graph
from edgeft.pipeline.history import Difference, Run, diff_runs, list_runs, read_run
from edgeft.pipeline.plan import Planned, plan
from edgeft.pipeline.project import Models, Options, Project, RecipeInfo
from edgeft.pipeline.runner import RunResult, TargetResult, run
from edgeft.pipeline.stage import Inputs, Source, Stage, Target, Work

__all__ = [
    "Difference",
    "Event",
    "EventKind",
    "Events",
    "Garbage",
    "Graph",
    "Inputs",
    "Models",
    "Options",
    "Planned",
    "Project",
    "Reason",
    "RecipeInfo",
    "Run",
    "RunResult",
    "Source",
    "Stage",
    "Status",
    "Target",
    "TargetResult",
    "Work",
    "collect",
    "diff_runs",
    "list_runs",
    "plan",
    "read_run",
    "run",
    "run_stage",
]
