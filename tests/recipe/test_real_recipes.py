"""Each recipe for a well-known base runs end to end, against a folder in the hub's cache layout.

The folder holds a tiny random model of the same architecture under the base's own id. What needs a GPU or hours is
turned down by `--set`; what a random model cannot pass (the gates) is left out. Everything else is the recipe as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeft.models.shapes import shape_of
from edgeft.recipe import load
from tests.models_made import SPECIALS, make_llama, make_tokenizer, save_random

ROOT = Path(__file__).parents[2]
RECIPES = [path for path in sorted((ROOT / "recipes").glob("*.yaml")) if "builtin:sprout" not in path.read_text()]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALLER = {
    "train.max_steps": "2",
    "train.optimizer": "adamw_torch",
    "train.micro_batch_size": "2",
    "train.gradient_accumulation_steps": "1",
    "eval.suites.task.limit": "3",
    "eval.suites.task.max_tokens": "8",
    "eval.suites.general.limit": "6",
    "eval.suites.general.max_tokens": "8",
    "verify.limit": "3",
    "gate": "[]",
}


def make_qwen2(folder: Path) -> Path:
    """A random Qwen2ForCausalLM with the shape of the tiny Llama."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokens = make_tokenizer(folder)
    config = Qwen2Config(
        vocab_size=tokens,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=tokens - 1,
        pad_token_id=tokens - len(SPECIALS),
    )
    return save_random(folder, Qwen2ForCausalLM, config)


MAKERS = {"llama": make_llama, "qwen2": make_qwen2}


def cached(cache: Path, ref: str, family: str) -> None:
    """Put a tiny model into a hub cache as `snapshot_download` lays it out: blobs, snapshots of links, refs."""
    repository = cache / ("models--" + ref.replace("/", "--"))
    made = MAKERS[family](cache / "made")
    snapshot, blobs = repository / "snapshots" / COMMIT, repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(made.iterdir())):
        blob = blobs / f"{number:040x}"
        path.rename(blob)
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_from_data_to_report(path: Path, tmp_path: Path) -> None:
    recipe = load(path)
    shape = shape_of(recipe.base_model)
    assert shape is not None
    cached(tmp_path / "hub", recipe.base_model, shape.family)
    overrides = [part for key, value in SMALLER.items() for part in ("--set", f"{key}={value}")]
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("edgeft")), "run", str(path), "--json", *overrides],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert {target["status"] for target in result["targets"]} == {"built"}
    shipped = {target["name"] for target in result["targets"] if target["stage"] == "export"}
    assert shipped == {f"export.{name}" for name in recipe.export}
    assert all((tmp_path / "build" / path.stem / name).is_symlink() for name in shipped)


def test_the_architectures_are_those_that_the_cache_is_filled_with() -> None:
    shapes = [shape_of(load(path).base_model) for path in RECIPES]
    assert {shape.family for shape in shapes if shape is not None} <= set(MAKERS)
    assert len(RECIPES) >= 3
