"""A run that is killed at any moment and run again ends with the bytes of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import StorageError
from edgeft.progress import Progress
from edgeft.training import checkpoints
from tests.training.made import contents, run_training

# Dropout and NEFTune draw random numbers at each step, AdamW has a state, the schedule moves: all of it must come back.
SETTINGS: dict[str, Any] = {
    "max_steps": 9,
    "gradient_accumulation_steps": 2,
    "lora_dropout": 0.1,
    "neftune_noise_alpha": 5.0,
    "weight_decay": 0.01,
    "eval_steps": 4,
}


class Killed(BaseException):
    pass


def stop_at(step: int) -> Any:
    def listen(progress: Progress) -> None:
        if progress.done == step:
            raise Killed

    return listen


@pytest.fixture(scope="module")
def undisturbed(tiny_llama: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed") / "adapter"
    run_training(folder, tiny_llama, tiny_dataset, **SETTINGS)
    return contents(folder)


@pytest.mark.parametrize("steps", [(3, 4, 8), (9,)])
def test_a_run_stopped_in_its_steps_ends_as_the_undisturbed_one(
    steps: tuple[int, ...], undisturbed: dict[str, bytes], tiny_llama: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    for step in steps:
        with pytest.raises(Killed):
            run_training(folder, tiny_llama, tiny_dataset, listen=stop_at(step), save_steps=2, **SETTINGS)
    seen: list[float] = []
    result = run_training(
        folder, tiny_llama, tiny_dataset, listen=lambda progress: seen.append(progress.done), save_steps=2, **SETTINGS
    )
    assert result.measurements["resumed_from_step"] == (steps[-1] - 1) // 2 * 2
    assert seen[0] == result.measurements["resumed_from_step"] + 1
    assert contents(folder) == undisturbed


def test_the_curve_does_not_depend_on_how_often_is_saved(
    undisturbed: dict[str, bytes], tiny_llama: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    run_training(tmp_path / "adapter", tiny_llama, tiny_dataset, save_steps=1, **SETTINGS)
    assert contents(tmp_path / "adapter") == undisturbed


def test_half_written_and_damaged_checkpoints_are_passed_over(
    undisturbed: dict[str, bytes], tiny_llama: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    folder, scratch = tmp_path / "adapter", tmp_path / "scratch"
    with pytest.raises(Killed):
        run_training(folder, tiny_llama, tiny_dataset, scratch=scratch, listen=stop_at(5), save_steps=4, **SETTINGS)
    whole = scratch / "checkpoint-4"
    assert whole.is_dir()
    half = scratch / "checkpoint-6"
    half.mkdir()
    (half / "trainer_state.json").write_text("{")
    (scratch / "partial" / "checkpoint-8").mkdir(parents=True)
    result = run_training(folder, tiny_llama, tiny_dataset, scratch=scratch, save_steps=4, **SETTINGS)
    assert result.measurements["resumed_from_step"] == 4
    assert contents(folder) == undisturbed
    assert not half.exists()


def test_a_checkpoint_cut_short_is_not_whole(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    folder, scratch = tmp_path / "adapter", tmp_path / "scratch"
    with pytest.raises(Killed):
        run_training(folder, tiny_llama, tiny_dataset, scratch=scratch, listen=stop_at(3), save_steps=2)
    optimizer = scratch / "checkpoint-2" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-10])
    result = run_training(folder, tiny_llama, tiny_dataset, scratch=scratch, save_steps=2)
    assert result.measurements["resumed_from_step"] == 0


def test_a_checkpoint_of_other_settings_is_not_resumed(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    folder, scratch = tmp_path / "adapter", tmp_path / "scratch"
    with pytest.raises(Killed):
        run_training(folder, tiny_llama, tiny_dataset, scratch=scratch, listen=stop_at(3), save_steps=2)
    result = run_training(folder, tiny_llama, tiny_dataset, scratch=scratch, save_steps=2, learning_rate=5e-4)
    assert result.measurements["resumed_from_step"] == 0


def test_early_stopping_survives_a_kill(tiny_llama: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    # A rate so high that the validation loss soon rises; stopped early, with the weights of the best evaluation.
    settings = {"max_steps": 14, "learning_rate": 0.05, "eval_steps": 1, "early_stopping_patience": 2, "save_steps": 1}
    straight = run_training(tmp_path / "a", tiny_llama, tiny_dataset, **settings)
    assert straight.facts["steps"] < 14
    assert straight.facts["best_eval_loss"] < straight.facts["eval_loss"]
    for step in range(1, straight.facts["steps"] + 1, 2):
        with pytest.raises(Killed):
            run_training(tmp_path / "b", tiny_llama, tiny_dataset, listen=stop_at(step), **settings)
    run_training(tmp_path / "b", tiny_llama, tiny_dataset, **settings)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    training = json.loads((tmp_path / "a" / "training.json").read_text())
    assert training["best_step"] == straight.facts["steps"] - 2


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(
    tiny_llama: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    folder, scratch = tmp_path / "adapter", tmp_path / "scratch"
    save = torch.save
    calls = []

    def fill(value: Any, path: Any, *rest: Any, **more: Any) -> None:
        calls.append(path)
        if "checkpoint-4" in str(path):
            Path(str(path)).write_bytes(b"half")
            raise OSError(28, "No space left on device", str(path))
        save(value, path, *rest, **more)

    monkeypatch.setattr(torch, "save", fill)
    with pytest.raises(StorageError, match="the disk is full"):
        run_training(folder, tiny_llama, tiny_dataset, scratch=scratch, save_steps=2)
    monkeypatch.undo()
    assert calls
    assert not any(folder.iterdir())
    result = run_training(folder, tiny_llama, tiny_dataset, scratch=scratch, save_steps=2)
    assert result.measurements["resumed_from_step"] == 2


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file data/3"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_torch_and_safetensors_have_their_own_words_for_a_full_disk(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the disk is full"), checkpoints.writing(tmp_path):
        raise error
    with pytest.raises(ValueError, match="something else"), checkpoints.writing(tmp_path):
        raise ValueError("something else")


_SCRIPT = """
import sys
from pathlib import Path
from tests.training.made import run_training
base, dataset, folder = map(Path, sys.argv[1:4])
run_training(folder, base, dataset, listen=lambda p: print(int(p.done), flush=True), save_steps=1, **{settings!r})
"""


@pytest.mark.slow
def test_killed_at_several_moments_by_the_system(
    undisturbed: dict[str, bytes], tiny_llama: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    """SIGKILL some time after a step's report: in the step, in the evaluation, while a checkpoint is written."""
    folder = tmp_path / "adapter"
    script = _SCRIPT.replace("{settings!r}", repr(SETTINGS))
    command = [sys.executable, "-c", script, str(tiny_llama), str(tiny_dataset), str(folder)]
    root = Path(__file__).parents[2]
    reached = []
    for step, delay in [(1, 0.0), (2, 0.01), (3, 0.02), (4, 0.05), (5, 0.1), (6, 0.005), (8, 0.03)]:
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) >= step:
                    time.sleep(delay)
                    os.kill(process.pid, signal.SIGKILL)
                    break
            process.wait()
            reached.append(process.returncode)
    assert -signal.SIGKILL in reached
    subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
    assert contents(folder) == undisturbed
