"""Help, completion and `edgeft check` start in an eye-blink: a fresh interpreter imports nothing heavy for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {
    "torch", "numpy", "transformers", "tokenizers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "pyarrow",
    "pandas", "onnx", "onnx_ir", "onnxruntime", "onnxruntime_genai", "gguf", "llama_cpp", "scipy", "safetensors",
    "numba", "sklearn", "datasketch", "sacrebleu", "rouge_score", "lm_eval", "matplotlib", "jsonschema",
    "huggingface_hub", "psutil", "jinja2", "requests", "optimum",
}  # fmt: skip
# What --help may not even need of the base install.
UNNEEDED = {"pydantic", "rich", "ruamel", "importlib.metadata", "email", "asyncio", "http", "difflib"}
PROBE = """
import json, sys
from edgeft.cli.main import main
code = main({arguments!r})
sys.stdout.flush()
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def imported(arguments: list[str], *, probe: str = PROBE, **environment: str) -> set[str]:
    """The modules that a fresh interpreter holds after one command line."""
    done = subprocess.run(
        [sys.executable, "-c", probe.format(arguments=arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    *told, modules = done.stderr.splitlines()
    assert done.returncode == 0, told
    return set(json.loads(modules))


def tops(modules: set[str]) -> set[str]:
    return modules | {name.split(".")[0] for name in modules}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["completion", "bash"]])
def test_help_needs_next_to_nothing(arguments: list[str]) -> None:
    assert tops(imported(arguments)) & (HEAVY | UNNEEDED) == set()


@pytest.mark.parametrize(
    "command",
    ["init", "check", "plan", "run", "report", "data", "lr-find", "train", "merge", "eval", "export", "verify", "chat",
     "runs", "doctor"],
)  # fmt: skip
def test_help_of_each_command_is_light(command: str) -> None:
    assert tops(imported([command, "--help"])) & HEAVY == set()


@pytest.mark.parametrize("command", ["check", "plan"])
def test_check_and_plan_are_light(command: str, tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / "quickstart.yaml"
    probe = f"import os\nos.chdir({str(tmp_path)!r})\n" + PROBE
    assert tops(imported([command, str(recipe)], probe=probe)) & HEAVY == set()


def test_completion_is_light() -> None:
    script = Path(sys.executable).with_name("edgeft")
    probe = f"import runpy, sys\nsys.argv = [{str(script)!r}]\n" + (
        "import json\n"
        "from edgeft.cli import main\n"
        "try:\n    code = main.main([])\nexcept SystemExit as end:\n    code = 0\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    modules = imported([], probe=probe, _EDGEFT_COMPLETE="bash_complete", COMP_WORDS="edgeft ", COMP_CWORD="1")
    assert "edgeft.cli.run" not in modules
    assert tops(modules) & (HEAVY | UNNEEDED) == set()


def test_a_heavy_import_would_be_seen() -> None:
    probe = "import edgeft.cli.main\nimport numpy\n" + PROBE
    assert "numpy" in tops(imported(["--help"], probe=probe)) & HEAVY
