"""The walls of the house (docs/architecture.md): who may import whom, no circles, heavy packages inside functions only,
and nothing but `cli` prints or exits. Read from the source, so nothing has to be importable."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GROUND = frozenset({"errors", "files", "datafiles", "extras", "registry", "progress", "artifact", "template_date"})
# package -> packages it may import, besides itself and the ground floor. The arrows of DESIGN and docs/architecture.md.
ALLOWED: dict[str, frozenset[str]] = {
    "recipe": frozenset(),
    "pipeline": frozenset(),
    "models": frozenset(),
    "data": frozenset(),
    "weights": frozenset(),
    "report": frozenset(),
    "training": frozenset({"data", "models"}),
    "exporters": frozenset({"weights", "models"}),
    "runtimes": frozenset({"models"}),
    "evals": frozenset({"runtimes"}),
    "stages": frozenset(
        {"recipe", "pipeline", "models", "data", "weights", "report", "training", "exporters", "runtimes", "evals"}
    ),
    "cli": frozenset(
        {
            "recipe", "pipeline", "models", "data", "weights", "report", "training", "exporters", "runtimes", "evals",
            "stages",
        }
    ),
}  # fmt: skip
HEAVY = frozenset(
    {
        "torch", "numpy", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "onnx", "onnx_ir",
        "onnxruntime", "onnxruntime_genai", "gguf", "llama_cpp", "scipy", "pyarrow", "pandas", "safetensors", "numba",
        "huggingface_hub", "tokenizers", "sklearn", "optimum", "jinja2", "psutil", "requests", "matplotlib",
    }
)  # fmt: skip
EXITS = frozenset({"print", "exit", "quit", "input", "breakpoint"})
# Who may end the process all the same, and why.
MAY_EXIT = {"edgeft.pipeline.interrupts": "os._exit"}  # the second Ctrl-C, in the signal handler of a run
EXIT_CALLS = frozenset({("sys", "exit"), ("os", "_exit"), ("os", "abort")})


@dataclass(frozen=True)
class Import:
    """One imported module of one import statement."""

    module: str
    line: int
    at_module_level: bool
    for_types: bool  # below `if TYPE_CHECKING:`


@dataclass(frozen=True)
class Source:
    """One file of the package: its dotted name and its syntax tree."""

    name: str
    is_package: bool
    tree: ast.Module

    @property
    def layer(self) -> str:
        """ "ground" for the ground floor, else the package below edgeft."""
        part = self.name.split(".")[1] if "." in self.name else "__init__"
        return "ground" if part in GROUND or part in ("__init__", "__main__") else part


def sources(root: Path) -> dict[str, Source]:
    """dotted name -> source of each file of the package `edgeft` below `root`."""
    found = {}
    for path in sorted((root / "edgeft").rglob("*.py")):
        parts = list(path.relative_to(root).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found[name] = Source(name, is_package, ast.parse(path.read_text(encoding="utf-8")))
    return found


def imports(source: Source, known: dict[str, Source]) -> Iterator[Import]:
    """Each import of a file, also inside functions; `from package import module` counts as importing the module."""

    def visit(node: ast.AST, in_function: bool, for_types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, not in_function, for_types)
            elif isinstance(child, ast.ImportFrom):
                base = _absolute(source, child)
                for alias in child.names:
                    module = f"{base}.{alias.name}"
                    yield Import(module if module in known else base, child.lineno, not in_function, for_types)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for inner in child.body:
                    yield from visit(ast.Module([inner], []), in_function, True)
                for inner in child.orelse:
                    yield from visit(ast.Module([inner], []), in_function, for_types)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, in_function or function, for_types)

    return visit(source.tree, False, False)


def _absolute(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = source.name.split(".") if source.is_package else source.name.split(".")[:-1]
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def wrong_directions(root: Path) -> list[str]:
    """Imports that no arrow allows, and packages that have no place in the house."""
    known = sources(root)
    faults = []
    for source in known.values():
        if source.layer != "ground" and source.layer not in ALLOWED:
            faults.append(f"{source.name}: the package has no place in ALLOWED and docs/architecture.md")
            continue
        allowed = ALLOWED.get(source.layer, frozenset()) | {source.layer, "ground"}
        for item in imports(source, known):
            if item.module == "edgeft" or not item.module.startswith("edgeft."):
                continue
            layer = known[item.module].layer if item.module in known else item.module.split(".")[1]
            if layer not in allowed:
                faults.append(f"{source.name}:{item.line}: {source.layer} may not import {item.module}")
    return faults


def circles(root: Path) -> list[str]:
    """A circle of modules, if there is one; imports inside functions count, imports for type checkers do not."""
    known = sources(root)
    graph = {
        source.name: {
            item.module
            for item in imports(source, known)
            if item.module in known and item.module not in (source.name, "edgeft") and not item.for_types
        }
        for source in known.values()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" -> ".join(reversed(error.args[1]))]
    return []


def heavy_at_module_level(root: Path) -> list[str]:
    known = sources(root)
    return [
        f"{source.name}:{item.line}: {item.module} belongs inside the function that needs it"
        for source in known.values()
        for item in imports(source, known)
        if item.at_module_level and not item.for_types and item.module.split(".")[0] in HEAVY
    ]


def speaking(root: Path) -> list[str]:
    """Calls outside `cli` that print, ask, or end the process."""
    faults = []
    for source in sources(root).values():
        if source.layer == "cli":
            continue
        for node in ast.walk(source.tree):
            call = node.func if isinstance(node, ast.Call) else node.exc if isinstance(node, ast.Raise) else None
            if isinstance(call, ast.Call):  # raise SystemExit(1)
                call = call.func
            name = ast.unparse(call) if call is not None else ""
            if name and name == MAY_EXIT.get(source.name):
                continue
            if isinstance(node, ast.Call) and (name in EXITS or tuple(name.split(".")) in EXIT_CALLS):
                faults.append(f"{source.name}:{node.lineno}: {name}() outside cli")
            elif isinstance(node, ast.Raise) and name == "SystemExit":
                faults.append(f"{source.name}:{node.lineno}: raise SystemExit outside cli")
    return faults


@pytest.mark.parametrize("rule", [wrong_directions, circles, heavy_at_module_level, speaking])
def test_the_house_keeps_the_rule(rule: object) -> None:
    assert callable(rule)
    assert rule(ROOT) == []


def test_the_arrows_themselves_have_no_circle() -> None:
    TopologicalSorter(ALLOWED).prepare()


def test_every_package_of_the_house_is_in_the_document() -> None:
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for package in [*ALLOWED, *GROUND]:
        assert f"`{package}`" in document, package
    present = {path.name for path in (ROOT / "edgeft").iterdir() if (path / "__init__.py").is_file()}
    assert present == set(ALLOWED)


def _house(root: Path, **modules: str) -> Path:
    """A fake tree: `data__x="import torch"` becomes edgeft/data/x.py."""
    for name, text in {"__init__": "", "errors": "", **modules}.items():
        path = (root / "edgeft").joinpath(*name.split("__")) if not name.startswith("__") else root / "edgeft" / name
        path = path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("module", "text", "line"),
    [
        ("data__loader", "from edgeft.models import base", 1),
        ("data__loader", "from edgeft import models", 1),
        ("data__loader", "def f():\n    import edgeft.models.base", 2),
        ("data__loader", "from ..models import base", 1),
        ("errors", "from edgeft.data import loader", 1),
        ("pipeline__runner", "from edgeft.stages.data import run", 1),
        ("evals__suites", "if TYPE_CHECKING:\n    from edgeft.training import x", 2),
    ],
)
def test_an_import_upwards_is_found(tmp_path: Path, module: str, text: str, line: int) -> None:
    house = _house(tmp_path, models__base="", stages__data="", **{module: text})
    faults = wrong_directions(house)
    assert len(faults) == 1
    assert faults[0].startswith(f"edgeft.{module.replace('__', '.')}:{line}: ")


def test_allowed_arrows_pass(tmp_path: Path) -> None:
    house = _house(
        tmp_path,
        models__base="from edgeft.errors import ModelError",
        training__loop="from edgeft.models import base\nfrom edgeft.data.x import y",
        cli__main="from edgeft.stages import table",
    )
    assert wrong_directions(house) == []
    assert circles(house) == []


def test_a_package_without_a_place_is_found(tmp_path: Path) -> None:
    assert "no place" in wrong_directions(_house(tmp_path, helpers__x=""))[0]


def test_a_circle_is_found_also_inside_functions(tmp_path: Path) -> None:
    house = _house(tmp_path, data__a="from edgeft.data import b", data__b="def f():\n    from edgeft.data.a import x")
    assert circles(house) in (
        ["edgeft.data.a -> edgeft.data.b -> edgeft.data.a"],
        ["edgeft.data.b -> edgeft.data.a -> edgeft.data.b"],
    )


def test_imports_for_type_checkers_make_no_circle(tmp_path: Path) -> None:
    late = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from edgeft.data.a import x"
    assert circles(_house(tmp_path, data__a="from edgeft.data import b", data__b=late)) == []


@pytest.mark.parametrize(
    "text", ["import torch", "import torch.nn as nn", "try:\n    import numpy\nexcept ImportError:\n    pass",
             "class A:\n    from gguf import GGUFWriter", "if TYPE_CHECKING:\n    pass\nelse:\n    import onnx"],
)  # fmt: skip
def test_a_heavy_import_at_module_level_is_found(tmp_path: Path, text: str) -> None:
    assert len(heavy_at_module_level(_house(tmp_path, data__x=text))) == 1


def test_heavy_imports_in_functions_and_for_types_pass(tmp_path: Path) -> None:
    text = "if TYPE_CHECKING:\n    import torch\n\ndef f():\n    import torch"
    assert heavy_at_module_level(_house(tmp_path, data__x=text)) == []


@pytest.mark.parametrize(
    "text", ["print('x')", "import sys\nsys.exit(1)", "raise SystemExit(2)", "raise SystemExit", "exit()", "input()"]
)
def test_printing_and_exiting_outside_cli_is_found(tmp_path: Path, text: str) -> None:
    assert len(speaking(_house(tmp_path, data__x=text))) == 1
    assert speaking(_house(tmp_path / "in-cli", cli__x=text)) == []
