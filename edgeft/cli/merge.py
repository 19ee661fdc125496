"""`edgeft merge`: fold adapters into their base model and write a safetensors checkpoint, without a recipe; or check
that a merge can be undone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from edgeft.cli.options import Command, base_option, json_option, merge_base_option, print_json
from edgeft.errors import JudgementError, UsageError
from edgeft.weights.combine import METHODS, Recipe, combine, scaled


def _numbers(ctx: click.Context, _: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """ "0.7,0.3" as numbers."""
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 0.7,0.3", ctx) from None


@click.command(cls=Command)
@base_option
@click.option(
    "--adapter", "adapters", type=click.Path(path_type=Path), required=True, multiple=True,
    help="An adapter's folder. Repeat it to combine several.",
)  # fmt: skip
@click.option("--weights", metavar="W,W…", callback=_numbers, help="One for each adapter, as 0.7,0.3; default 1 each.")
@click.option("--method", metavar="NAME", help=f"How several are combined: {', '.join(METHODS)}. [default: linear]")
@click.option("--density", type=float, help="Of ties, dare and magnitude_prune: the share of values that they keep.")
@click.option("--rank", type=click.IntRange(min=1), help="Of svd: the rank of the combination; default the largest.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what dare drops.")
@click.option("--scale", type=float, help="Fold one adapter with this strength instead of 1.")
@merge_base_option
@click.option("--out", type=click.Path(path_type=Path), help="The folder to write; it must not be there yet.")
@click.option(
    "--check",
    type=click.Path(path_type=Path),
    help="Write nothing: take the adapter out of this merge again, or compare with this .gguf file.",
)
@click.option("--out-adapter", type=click.Path(path_type=Path), help="Write the combined or scaled adapter, no merge.")
@json_option
def command(
    base: str,
    adapters: tuple[Path, ...],
    weights: tuple[float, ...] | None,
    method: str | None,
    density: float | None,
    rank: int | None,
    seed: int,
    scale: float | None,
    merge_base: str,
    out: Path | None,
    check: Path | None,
    out_adapter: Path | None,
    as_json: bool,
) -> None:
    """Fold an adapter, or several combined, into their base model, tensor by tensor, and write the checkpoint to --out.
    With --check, tell whether the base comes back out of a merge, or whether a GGUF file holds what it should."""
    from edgeft.cli.folders import adapter_of, base_folder, build, tell
    from edgeft.cli.quiet import quiet_libraries

    if [out, check, out_adapter].count(None) != 2:
        raise UsageError("merge needs one of --out, --check and --out-adapter")
    several = len(adapters) > 1
    if not several and (method or density is not None or rank or weights):
        raise UsageError("--weights, --method, --density and --rank are for several adapters", do="one takes --scale")
    if several and scale is not None:
        raise UsageError("--scale is for one adapter", do="several take --weights")
    given = [found.path for folder in adapters if (found := adapter_of(folder)) is not None]
    how = Recipe(weights or (1.0,) * len(given), method or "linear", density, rank, seed) if several else None
    if out_adapter is not None:
        _write_adapter(given, how, scale, out_adapter)
        print_json({"path": out_adapter, "kind": "adapter"}) if as_json else click.echo(str(out_adapter))
        return
    quiet_libraries(debug=click.get_current_context().find_root().obj.debug)
    folder = base_folder(base)
    with _one(given, how, scale) as adapter:
        if check is not None:
            _check(folder, adapter, check, merge_base, as_json=as_json)
            return
        assert out is not None
        inputs = {"adapter": adapter_of(adapter)}
        made = build("merge", {"merge_base": merge_base}, out, inputs=inputs, sources={"base": folder})
    tell(made, out, as_json=as_json)


@contextmanager
def _one(adapters: list[Path], how: Recipe | None, scale: float | None) -> Iterator[Path]:
    """The adapter as it is, or a folder for the time being with the scaled or combined one."""
    import tempfile

    if how is None and scale is None:
        yield adapters[0]
        return
    with tempfile.TemporaryDirectory(prefix="edgeft-") as name:
        _make_adapter(adapters, how, scale, Path(name))
        yield Path(name)


def _make_adapter(adapters: list[Path], how: Recipe | None, scale: float | None, folder: Path) -> None:
    from edgeft import extras

    extras.require("train")
    if how is not None:
        combine(adapters, how, folder)
    else:
        scaled(adapters[0], 1.0 if scale is None else scale, folder)


def _write_adapter(adapters: list[Path], how: Recipe | None, scale: float | None, out: Path) -> None:
    """A new adapter's folder, which appears whole: every command that takes an adapter takes it."""
    from edgeft import files
    from edgeft.cli.folders import refuse_existing
    from edgeft.errors import storage_errors

    refuse_existing(out)
    if how is None and scale is None:
        raise UsageError("--out-adapter needs several adapters or --scale")
    partial = out.with_name(f".{out.name}.partial")
    with storage_errors(out.parent):
        files.remove_tree(partial)
        partial.mkdir(parents=True)
        try:
            _make_adapter(adapters, how, scale, partial)
            files.sync_tree(partial)
            partial.rename(out)
        finally:
            files.remove_tree(partial)


def _check(base: Path, adapter: Path, merged: Path, merge_base: str, *, as_json: bool) -> None:
    """Say how far the base that comes out is from the base that went in; code 4 when it is further than rounding."""
    from edgeft import extras
    from edgeft.weights.unmerge import unmerged

    extras.require("train")
    if merged.suffix == ".gguf":
        _check_gguf(base, adapter, merged, merge_base, as_json=as_json)
        return
    found = unmerged(base, adapter, merged, merge_base=merge_base)
    if as_json:
        print_json(found.as_json())
    else:
        where = f" ({found.worst})" if found.worst else ""
        click.echo(f"changed weights        {found.changed}")
        click.echo(f"others, as they were   {found.same}")
        click.echo(f"largest difference     {found.largest:.2f} units in the last place{where}")
    if found.unequal:
        count = len(found.unequal)
        raise JudgementError(
            f"{count} weights are not as they were, the first: {found.unequal[0]!r}", where=merged, do="merge again"
        )
    if not found.within_rounding:
        raise JudgementError(
            f"the base is not restored within rounding: {found.largest:.4g} units in the last place",
            where=merged,
            do="another adapter, strength or --merge-base was folded in, or the sum was rounded twice",
        )


def _check_gguf(base: Path, adapter: Path, path: Path, merge_base: str, *, as_json: bool) -> None:
    """A GGUF file's tensors against base and adapter folded here; code 4 when they are not those."""
    from edgeft.exporters.gguf.families import family_of, model_config
    from edgeft.weights import open_weights
    from edgeft.weights.compare import compare
    from edgeft.weights.gguf_file import open_gguf

    config = model_config(base)
    wanted = family_of(config).tensors(config, open_weights(base, adapter, merge_base=merge_base))
    found = compare(wanted, open_gguf(path))
    if as_json:
        print_json(found.as_json())
    else:
        click.echo(f"{'type':<8} {'tensors':>8} {'equal':>8} {'largest relative error':>24}")
        for name, of in found.types.items():
            click.echo(f"{name:<8} {of.tensors:>8} {of.equal:>8} {of.largest:>24.3g}  {of.worst or ''}".rstrip())
    if found.wrong:
        raise JudgementError(
            f"{len(found.wrong)} tensors of the file are not what base and adapter give, the first: {found.wrong[0]!r}",
            where=path,
            do="another adapter, base, strength or --merge-base went into it",
        )
