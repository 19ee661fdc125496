"""The store: whole artifacts or none, damage found out, left-overs taken up, links replaced in one step."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft import artifact, files
from edgeft.errors import StorageError
from edgeft.pipeline import Status
from edgeft.pipeline.digests import DigestCache
from edgeft.pipeline.store import Store, link, unlink
from tests.pipeline import toy
from tests.pipeline.conftest import Kitchen, why


def edit(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda a: (a / "adapter.bin").unlink(), "adapter.bin"),
    "shorter": (lambda a: (a / "adapter.bin").write_text("x"), "adapter.bin"),
    "same size": (lambda a: (a / "adapter.bin").write_text("0" * 64), "adapter.bin"),
    "below": (lambda a: shutil.rmtree(a / "settings"), "settings/training.json"),
    "a folder": (lambda a: ((a / "adapter.bin").unlink(), (a / "adapter.bin").mkdir()), "adapter.bin"),
    "no manifest": (lambda a: (a / "artifact.json").unlink(), "it has no artifact.json"),
    "half a manifest": (lambda a: (a / "artifact.json").write_text('{"kind": '), "artifact.json cannot be read"),
    "not a manifest": (lambda a: (a / "artifact.json").write_text("[]"), "artifact.json cannot be read"),
    "bytes": (lambda a: (a / "artifact.json").write_bytes(b"\xff\xfe"), "artifact.json cannot be read"),
    "another version": (lambda a: edit(a / "artifact.json", lambda d: d.pop("facts")), "artifact.json cannot be read"),
    "edited": (lambda a: edit(a / "artifact.json", lambda d: d.update(passed=False)), "artifact.json was changed"),
    "odd types": (lambda a: edit(a / "artifact.json", lambda d: d.update(files=[1])), "Error"),
    "another fingerprint": (
        lambda a: edit(a / "artifact.json", lambda d: d.update(fingerprint=a.name[-16:] + "0" * 48)),
        "names another fingerprint",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_artifact_is_named_and_built_again(kitchen: Kitchen, damage: str) -> None:
    spoil, text = DAMAGES[damage]
    before = kitchen.run("train")["train"].artifact
    assert before is not None
    spoil(before.path)
    planned = kitchen.plan("train")
    assert [name for name, each in planned.items() if each.will_run] == ["train"]
    reason = why(planned["train"])[0]
    assert reason.startswith("its artifact is damaged: ")
    assert text in reason
    result = kitchen.run("train")
    assert result.exit_code == 0
    assert toy.CALLS == ["train"]
    assert result["train"].artifact is not None
    assert result["train"].artifact.digest == before.digest
    assert artifact.damaged(result["train"].artifact, thorough=True) == []
    assert not [name for name in kitchen.stored() if "." in name]


def test_a_touched_artifact_is_read_again_and_kept(kitchen: Kitchen) -> None:
    made = kitchen.run("train")["train"].artifact
    assert made is not None
    os.utime(made.path / "adapter.bin", (1, 1))
    assert kitchen.plan("train")["train"].status == Status.UP_TO_DATE


def test_a_copied_store_is_still_good(kitchen: Kitchen) -> None:
    kitchen.run()
    shutil.copytree(kitchen.root, kitchen.root.parent / "copy", symlinks=True)
    copy = Kitchen(kitchen.root.parent / "copy")
    copy.run()
    assert toy.CALLS == []


def test_an_artifact_removed_by_hand(kitchen: Kitchen) -> None:
    made = kitchen.run("train")["train"].artifact
    assert made is not None
    shutil.rmtree(made.path)
    assert why(kitchen.plan("train")["train"]) == ["its artifact is missing"]


def test_a_whole_store_removed_by_hand(kitchen: Kitchen) -> None:
    kitchen.run()
    shutil.rmtree(kitchen.root / ".edgeft")
    assert why(kitchen.plan()["train"]) == ["never built", "input data will be rebuilt"]
    assert kitchen.run().exit_code == 0


@pytest.mark.parametrize("text", ["2", "", "one\n"])
def test_a_store_of_another_layout_is_refused(kitchen: Kitchen, text: str) -> None:
    kitchen.run("data")
    (kitchen.root / ".edgeft" / "layout").write_text(text)
    for call in (kitchen.plan, kitchen.run):
        with pytest.raises(StorageError, match="another version of edgeft"):
            call()


@pytest.mark.parametrize("name", ["recipes/toy.json", "digests.json"])
@pytest.mark.parametrize("junk", ["", "[]", "null", '{"layout": 1, "targets": {"train": 7}, "files": 7}'])
def test_broken_helper_files_do_no_harm(kitchen: Kitchen, name: str, junk: str) -> None:
    kitchen.run()
    (kitchen.root / ".edgeft" / name).write_text(junk)
    result = kitchen.run()
    assert result.exit_code == 0
    assert toy.CALLS == []
    assert kitchen.plan(train={"steps": 7})["train"].will_run


def test_what_was_finished_but_not_yet_in_place_is_taken_up(kitchen: Kitchen) -> None:
    made = kitchen.run("train")["train"].artifact
    assert made is not None
    made.path.rename(made.path.with_name(made.path.name + ".partial"))
    result = kitchen.run("train")
    assert toy.CALLS == []
    assert result["train"].artifact is not None
    assert result["train"].artifact.path == made.path
    assert [str(reason) for reason in result["train"].reasons] == [
        "finished by a run that was killed before it could say so"
    ]
    assert kitchen.stored() == sorted(name for name in kitchen.stored() if "." not in name)


def test_what_made_room_comes_back_when_nothing_took_its_place(kitchen: Kitchen) -> None:
    made = kitchen.run("train")["train"].artifact
    assert made is not None
    made.path.rename(made.path.with_name(made.path.name + ".old"))
    kitchen.run("train")
    assert toy.CALLS == []
    assert made.path.is_dir()


def test_half_written_work_is_thrown_away(kitchen: Kitchen) -> None:
    made = kitchen.run("train")["train"].artifact
    assert made is not None
    partial = made.path.with_name(made.path.name + ".partial")
    made.path.rename(partial)
    (partial / "artifact.json").unlink()
    (partial / "junk").write_text("x")
    result = kitchen.run("train")
    assert toy.CALLS == ["train"]
    assert "junk" not in result["train"].artifact.files  # type: ignore[union-attr]


def test_left_over_scratch_of_a_finished_artifact_goes(kitchen: Kitchen) -> None:
    made = kitchen.run("train")["train"].artifact
    assert made is not None
    scratch = kitchen.root / ".edgeft" / "scratch" / made.path.name
    scratch.mkdir(parents=True)
    (scratch / "checkpoint.json").write_text('[3, "stale"]')
    kitchen.run("train")
    assert not scratch.exists()
    scratch.mkdir()
    (scratch / "checkpoint.json").write_text('[3, "stale"]')
    assert kitchen.run("train", options={"force": True})["train"].artifact.digest == made.digest  # type: ignore[union-attr]


def test_looking_up_creates_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / ".edgeft", DigestCache(tmp_path / "digests.json"))
    assert store.find("train", "a" * 64).artifact is None
    assert list(tmp_path.iterdir()) == []


def test_links_are_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / ".edgeft" / "one", tmp_path / ".edgeft" / "two"
    for folder in (one, two):
        folder.mkdir(parents=True)
    place = link(tmp_path, "r", "train", one)
    assert place is not None
    assert place.resolve() == one
    assert link(tmp_path, "r", "train", one) is None
    seen = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        seen.append(place.resolve())
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    link(tmp_path, "r", "train", two)
    assert seen == [one]
    assert place.resolve() == two
    assert sorted(path.name for path in place.parent.iterdir()) == ["train"]


def test_a_link_works_after_the_whole_project_moved(kitchen: Kitchen) -> None:
    kitchen.run("train")
    moved = kitchen.root.parent / "moved"
    kitchen.root.rename(moved)
    assert (moved / "build" / "toy" / "train" / "adapter.bin").is_file()


def test_a_link_below_a_linked_build_folder(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "far" / "away"
    store = root / ".edgeft" / "store" / "x"
    store.mkdir(parents=True)
    elsewhere.mkdir(parents=True)
    (root / "build").symlink_to(elsewhere)
    place = link(root, "r", "t", store)
    assert place is not None
    assert place.resolve() == store.resolve()
    assert link(root, "r", "t", store) is None


def test_unlink_leaves_what_is_not_a_link(tmp_path: Path) -> None:
    (tmp_path / "build" / "r" / "t").mkdir(parents=True)
    assert unlink(tmp_path, "r", "t") is None
    assert (tmp_path / "build" / "r" / "t").is_dir()
    assert unlink(tmp_path, "r", "nothing") is None


def test_the_store_is_kept_out_of_version_control(kitchen: Kitchen) -> None:
    kitchen.run("data")
    assert (kitchen.root / ".edgeft" / ".gitignore").read_text() == "*\n"
    assert files.read_json(next((kitchen.root / ".edgeft" / "runs").glob("*.json")))["recipe"] == "toy"
