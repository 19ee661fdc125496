"""`edgeft lr-find RECIPE`: a learning-rate range test of a recipe's training, with a plot. Builds what the training
reads when it is not there; keeps nothing of the test but the page with the plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeft.cli.options import Command, json_option, print_json, recipe_argument, set_option

if TYPE_CHECKING:
    from edgeft.cli.project import Opened
    from edgeft.pipeline.stage import Target
    from edgeft.training.lr_find import Found, Point

LINES, BARS = 24, 30  # of the curve in the terminal
SOURCE = "Smith 2015, arXiv:1506.01186, and 2018, arXiv:1803.09820"


@click.command(cls=Command)
@recipe_argument
@click.option("--phase", metavar="NAME", help="Of a training in phases: which one; default the last.")
@click.option("--from", "low", type=click.FloatRange(0, min_open=True), default=1e-6, show_default=True,
              help="The first learning rate.")  # fmt: skip
@click.option("--to", "high", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
              help="The last one, unless the loss diverges before.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=10), default=100, show_default=True, help="Optimizer steps.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Where the page with the plot goes; default build/RECIPE/lr-find.html.")  # fmt: skip
@set_option
@json_option
def command(
    recipe: Path, phase: str | None, low: float, high: float, steps: int, plot: Path | None,
    overrides: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Find a learning rate for RECIPE: train a few steps with a rate that rises from one to the next."""
    from edgeft.cli.project import open_project
    from edgeft.cli.quiet import quiet_libraries
    from edgeft.errors import UsageError

    if low >= high:
        raise UsageError(f"--from {low:g} is not below --to {high:g}")
    quiet_libraries(debug=click.get_current_context().find_root().obj.debug)
    opened = open_project(recipe, overrides)
    target = _target(opened, phase)
    found = _tested(opened, target, low, high, steps)
    place = plot or Path("build") / opened.recipe.name / "lr-find.html"
    rate: float = target.params.learning_rate  # type: ignore[attr-defined]
    drawn = _page(found, rate, place, f"{opened.recipe.name}: {target.name}")
    if as_json:
        print_json(_table(found, target, rate, place if drawn else None))
        return
    for line in _lines(found, rate):
        click.echo(line)
    click.echo(f"\nplot: {place}" if drawn else "\nno plot: it needs pip install 'edgeft[eval]'")


def _target(opened: Opened, phase: str | None) -> Target:
    """The training target of a phase."""
    from edgeft.errors import UsageError
    from edgeft.stages.targets import phase_target

    recipe = opened.recipe
    names = [one.name for one in recipe.phases if one.name]
    if phase is not None and phase not in names:
        raise UsageError(
            f"the recipe has no phase {phase!r}",
            do=f"it has: {', '.join(names)}" if names else "leave --phase out: its training is in one piece",
        )
    chosen = next((one for one in recipe.phases if one.name == phase and phase), recipe.train)
    name = phase_target(recipe, chosen)
    return next(target for target in opened.targets if target.name == name)


def _tested(opened: Opened, target: Target, low: float, high: float, steps: int) -> Found:
    """What the training reads built when it is not up to date, then the test; all that is said goes to stderr."""
    import tempfile

    from edgeft.cli.console import reporter
    from edgeft.cli.project import built
    from edgeft.pipeline import Event, EventKind, Inputs, Work
    from edgeft.pipeline.build import locate
    from edgeft.progress import Progress
    from edgeft.stages.train import job_of
    from edgeft.training import lr_find

    lr_find.check(target.params.objective, low, high, steps)  # type: ignore[attr-defined]
    artifacts = built(opened, list(target.inputs.values()))
    project = opened.project
    sources = {role: locate(source, project.base, project.models) for role, source in target.sources.items()}
    inputs = Inputs({role: artifacts[name] for role, name in target.inputs.items()}, sources)
    with tempfile.TemporaryDirectory(prefix="edgeft-lr-find-") as kept, reporter(to_stderr=True) as events:
        name = "lr-find"

        def listen(progress: Progress) -> None:
            events(Event(EventKind.PROGRESS, name, target.stage, progress=progress))

        events(Event(EventKind.STARTED, name, target.stage))
        work = Work(
            Path(kept),
            Path(kept),
            listen,
            lambda text: events(Event(EventKind.WARNING, name, target.stage, message=text)),
        )
        return lr_find.find(job_of(target.params, inputs, work), low=low, high=high, steps=steps)  # type: ignore[arg-type]


def _page(found: Found, rate: float, place: Path, title: str) -> bool:
    """Write the page with the plot; False when nothing can be drawn."""
    import importlib.util

    from edgeft import files
    from edgeft.report import range_test

    if importlib.util.find_spec("matplotlib") is None:
        return False
    points = [{"rate": point.rate, "loss": point.loss, "smoothed": point.smoothed} for point in found.points]
    picture = range_test.range_test(points, {name: value for name, value, _ in _suggestions(found)}, rate)
    if picture is None:
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(place, range_test.standalone(f"Learning rate range test of {title}", picture))
    return True


def _suggestions(found: Found) -> Iterator[tuple[str, float, str]]:
    """(name, rate, what it means) of each suggestion there is."""
    if found.steepest is not None:
        yield "steepest", found.steepest, "a rate to begin with: the loss falls fastest"
    if found.most is not None:
        yield "lowest / 10", found.most, "the cautious choice"


def _table(found: Found, target: Target, rate: float, place: Path | None) -> Mapping[str, Any]:
    return {
        "target": target.name,
        "learning_rate": rate,
        "steepest": found.steepest,
        "lowest": found.lowest,
        "tenth_of_lowest": found.most,
        "diverged": found.diverged,
        "method": SOURCE,
        "plot": place,
        "points": [vars(point) for point in found.points],
    }


def _lines(found: Found, rate: float) -> Iterator[str]:
    """The curve as bars, and what it suggests."""
    yield f"{'rate':>9}  {'loss':>8}"
    highest = max((point.smoothed for point in found.points), default=1.0)
    for point, marks in _marked(found, rate):
        bar = "█" * max(0, round(BARS * point.smoothed / highest)) if highest > 0 else ""
        yield f"{point.rate:>9.2e}  {point.smoothed:>8.4f}  {bar:<{BARS}}  {marks}".rstrip()
    if found.diverged is not None:
        yield f"{found.diverged:>9.2e}  diverged"
    yield ""
    for name, value, meaning in _suggestions(found):
        yield f"{name}: {value:.2g} ({meaning})"
    if found.steepest is None:
        yield "the loss fell at no rate: there is nothing to suggest"
    yield f"the recipe has {rate:.2g}"
    yield "range test (Smith 2015, arXiv:1506.01186), read off the smoothed loss"


def _marked(found: Found, rate: float) -> Iterator[tuple[Point, str]]:
    """Every so many points of the curve, with what is nearest to each."""
    step = max(1, -(-len(found.points) // LINES))
    shown = found.points[::step]
    wanted = {name: value for name, value, _ in _suggestions(found)} | {"the recipe's": rate}
    if found.lowest is not None:
        wanted["lowest"] = found.lowest
    nearest: dict[int, list[str]] = {}
    for name, value in wanted.items():
        if shown and shown[0].rate <= value <= found.points[-1].rate:
            place = min(range(len(shown)), key=lambda i: abs(shown[i].rate / value - 1))
            nearest.setdefault(place, []).append(name)
    for place, point in enumerate(shown):
        yield point, f"← {', '.join(nearest[place])}" if place in nearest else ""
