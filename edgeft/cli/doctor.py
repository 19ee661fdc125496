"""`edgeft doctor`: this machine, the extras, and what it can train and ship. Always exit code 0: it judges nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeft.cli.options import Command, json_option, print_json

if TYPE_CHECKING:
    from edgeft.cli.machine import Machine


@click.command(cls=Command)
@json_option
def command(as_json: bool) -> None:
    """Say what this machine has, what is missing and how to install it, and what it can train and ship."""
    from edgeft.cli import machine

    here = machine.look(Path.cwd())
    states = machine.extra_states()
    llama = machine.llama_cpp()
    if as_json:
        print_json(
            {
                "machine": asdict(here),
                "extras": [{**asdict(state), "install": state.install} for state in states],
                "llama_cpp": llama,
                "can": [asdict(one) for one in can_train(here)],
            }
        )
        return
    _machine_lines(here)
    click.echo("\nExtras")
    for state in states:
        _line(
            state.name,
            f"{state.purpose}: {'installed' if not state.missing else 'missing ' + ', '.join(state.missing)}",
        )
        if state.install:
            _line("", state.install)
    _line(
        "llama.cpp",
        f"loads ({llama['version']}; {' '.join(llama['uses'])})"
        if llama["loads"]
        else f"does not load: {llama['why']}",
    )
    _can_lines(can_train(here), "GPU" if here.gpus else "processor")


@dataclass(frozen=True)
class Can:
    """Whether a base model can be tuned here: bytes in RAM (or VRAM), hours per million training tokens."""

    base: str
    parameters: int
    needs: int
    fits: bool
    hours_per_million_tokens: float
    gguf_q4_k_m: int


def can_train(here: Machine) -> list[Can]:
    """QLoRA of the known small bases with settings that save memory: rank 16, one row of 1024 tokens, checkpointing."""
    from edgeft.models import needs
    from edgeft.models.shapes import KNOWN, from_config
    from edgeft.stages.estimates import Machine as Trainer

    device = "cuda" if here.gpus else "cpu"
    room = max((gpu.memory for gpu in here.gpus), default=here.memory_available)
    trainer = Trainer(device, here.cores)
    found = []
    for name, config in KNOWN.items():
        shape = from_config(config)
        total = needs.training(
            shape, adapter="qlora", rank=16, batch=1, length=1024, checkpointing=True, device=device
        ).total
        operations = needs.training_operations(shape, 1_000_000, checkpointing=True)
        size = needs.export_size(shape, "gguf-q4_k_m")
        hours = round(operations / trainer.speed(shape) / 3600, 2)
        found.append(Can(name, shape.parameters, total, total <= room, hours, size.bytes if size else 0))
    return sorted(found, key=lambda one: one.parameters)


def _can_lines(found: list[Can], device: str) -> None:
    from edgeft.files import human_size

    click.echo(f"\nCan tune here on the {device} (QLoRA, rank 16, rows of 1024 tokens) and ship")
    click.echo(f"  {'base model':<37} {'memory':>8} {'fits':>5} {'1M tokens':>10} {'q4_k_m file':>12}")
    for one in found:
        hours = one.hours_per_million_tokens
        took = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
        fits = click.style(f"{'yes' if one.fits else 'no':>5}", fg="green" if one.fits else "red")
        click.echo(f"  {one.base:<37} {human_size(one.needs):>8} {fits} {took:>10} {human_size(one.gguf_q4_k_m):>12}")


def _line(name: str, text: str) -> None:
    """A name and its text, which goes on below itself within 80 columns."""
    import textwrap

    pieces = textwrap.wrap(text, width=80 - 14, break_on_hyphens=False, break_long_words=False) or [""]
    for number, piece in enumerate(pieces):
        click.echo(f"  {name if number == 0 else '':<11} {piece}".rstrip())


def _machine_lines(here: Machine) -> None:
    from edgeft.files import human_size

    click.echo("Machine")
    _line("python", here.python)
    _line("system", here.system)
    _line("processor", f"{here.cores} cores{', ' + here.simd if here.simd else ''}")
    _line("memory", f"{human_size(here.memory)}, {human_size(here.memory_available)} available")
    _line("disk", f"{human_size(here.disk_free)} free here")
    if here.torch is None:
        _line("GPU", "unknown: torch is not installed")
    for gpu in here.gpus:
        _line("GPU", f"{gpu.name}, {human_size(gpu.memory)}, {'bf16' if gpu.bf16 else 'no bf16 (float16 is used)'}")
    if here.torch is not None and not here.gpus:
        _line("GPU", "none that torch can use: training runs on the processor")
