"""Digests of sources, and the cache that saves reading them twice."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeft import files
from edgeft.errors import Errors, InputError, ModelError
from edgeft.pipeline import Source, Target, plan
from edgeft.pipeline.digests import DigestCache, digest_source
from tests.pipeline import toy
from tests.pipeline.conftest import Kitchen


@pytest.fixture
def cache(tmp_path: Path) -> DigestCache:
    return DigestCache(tmp_path / ".edgeft" / "digests.json")


def age(path: Path, seconds: float = 10) -> None:
    """Make a file look older than the clock's grain, as files on a disk usually are."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def digest(kind: str, ref: str, base: Path, cache: DigestCache, models: toy.ToyModels | None = None) -> str | None:
    return digest_source(Source(kind, ref), base=base, models=models or toy.ToyModels(), cache=cache).digest


def test_a_file_is_read_once(tmp_path: Path, cache: DigestCache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    age(path)
    first = cache.digest(path)
    cache.save()
    again = DigestCache(tmp_path / ".edgeft" / "digests.json")
    monkeypatch.setattr(files, "digest_file", lambda _: pytest.fail("it was read again"))
    assert again.digest(path) == first


def test_a_change_of_the_same_size_is_seen(tmp_path: Path, cache: DigestCache) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    age(path)
    first = cache.digest(path)
    path.write_text("b")
    assert cache.digest(path) != first
    path.write_text("c")  # within the clock's grain of the last one
    assert cache.digest(path) == files.digest_file(path)


def test_a_replaced_file_with_the_old_time_is_seen(tmp_path: Path, cache: DigestCache) -> None:
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    for each, text in ((path, "a"), (other, "b")):
        each.write_text(text)
        os.utime(each, (1_000_000_000, 1_000_000_000))
    first = cache.digest(path)
    other.replace(path)
    assert cache.digest(path) != first


@pytest.mark.parametrize(
    "junk",
    [b"", b"{", b"[]", b'{"layout": 1}', b'{"layout": 9, "files": {}}', b"\xff\xfe", b'{"layout":1,"files":[1]}'],
)
def test_a_broken_cache_is_discarded(tmp_path: Path, junk: bytes) -> None:
    place = tmp_path / "digests.json"
    place.write_bytes(junk)
    path = tmp_path / "a.txt"
    path.write_text("a")
    age(path)
    cache = DigestCache(place)
    assert cache.digest(path) == files.digest_file(path)
    cache.save()
    assert str(path) in json.loads(place.read_text())["files"]


def test_broken_entries_are_left_out(tmp_path: Path) -> None:
    path, place = tmp_path / "a.txt", tmp_path / "digests.json"
    path.write_text("a")
    age(path)
    stat = path.stat()
    mark = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
    for wrong in ([*mark, 7], [*mark], "x", [*mark, "short"], None):
        place.write_text(json.dumps({"layout": 1, "files": {str(path): wrong}}))
        assert DigestCache(place).digest(path) == files.digest_file(path)


def test_caches_written_side_by_side_stay_readable(tmp_path: Path) -> None:
    place = tmp_path / "digests.json"
    paths = [tmp_path / f"{number}.txt" for number in range(24)]
    for path in paths:
        path.write_text(path.name)
        age(path)

    def learn(path: Path) -> None:
        cache = DigestCache(place)
        cache.digest(path)
        cache.save()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(learn, paths))
    known = json.loads(place.read_text())["files"]
    assert known
    assert all(known[str(path)][3] == files.digest_file(path) for path in paths if str(path) in known)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = DigestCache(tmp_path / "file" / "digests.json")
    age(tmp_path / "file")
    cache.digest(tmp_path / "file")
    cache.save()


def test_folders_by_names_and_content(tmp_path: Path, cache: DigestCache) -> None:
    folder = tmp_path / "corpus"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "deep" / "b.txt").write_text("b")
    first = digest("folder", "corpus", tmp_path, cache)
    (folder / ".hidden").write_text("x")
    assert digest("folder", "corpus", tmp_path, cache) == first
    (folder / "a.txt").rename(folder / "c.txt")
    renamed = digest("folder", "corpus", tmp_path, cache)
    assert renamed != first
    (folder / "deep" / "b.txt").write_text("bb")
    assert digest("folder", "corpus", tmp_path, cache) not in (first, renamed)


def test_models_by_what_matters(tmp_path: Path, cache: DigestCache) -> None:
    toy.kitchen(tmp_path)
    first = digest("model", "./base", tmp_path, cache)
    (tmp_path / "base" / "README.md").write_text("words")
    (tmp_path / "base" / "artifact.json").write_text("{}")
    assert digest("model", "./base", tmp_path, cache) == first
    (tmp_path / "base" / "chat_template.jinja").write_text("{{ x }}")
    assert digest("model", "./base", tmp_path, cache) != first


def test_hub_models_by_commit(tmp_path: Path, cache: DigestCache) -> None:
    models = toy.ToyModels()
    assert digest("model", "org/x", tmp_path, cache, models) is None
    models.hub["org/x"] = (tmp_path, "c1")
    one = digest("model", "org/x", tmp_path, cache, models)
    models.hub["org/x"] = (tmp_path / "another" / "place", "c1")
    assert digest("model", "org/x", tmp_path, cache, models) == one
    models.hub["org/x"] = (tmp_path, "c2")
    assert digest("model", "org/x", tmp_path, cache, models) != one


@pytest.mark.parametrize(
    ("kind", "ref", "text"),
    [
        ("file", "absent.jsonl", "absent.jsonl: there is no such file"),
        ("file", "base", "base: this is a folder, not a file"),
        ("folder", "absent", "absent: there is no such folder"),
        ("model", "./absent", "the base model folder is not there"),
        ("model", "./empty", "holds no model"),
    ],
)
def test_sources_that_are_not_there(tmp_path: Path, cache: DigestCache, kind: str, ref: str, text: str) -> None:
    toy.kitchen(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=text) as caught:
        digest(kind, ref, tmp_path, cache)
    assert isinstance(caught.value, ModelError) == (kind == "model")


def test_a_plan_tells_every_absent_source_once(kitchen: Kitchen) -> None:
    def reader(name: str, *refs: str) -> Target:
        sources = {str(number): Source("file", ref) for number, ref in enumerate(refs)}
        return Target(name, "read", toy.Read.Params(), sources=sources)

    with pytest.raises(Errors) as caught:
        plan([reader("a", "x.jsonl"), reader("b", "y.jsonl"), reader("c", "x.jsonl")], kitchen.project)
    assert [str(error).splitlines()[0] for error in caught.value.errors] == [
        f"{kitchen.root / 'x.jsonl'}: there is no such file",
        f"{kitchen.root / 'y.jsonl'}: there is no such file",
    ]
    assert caught.value.exit_code == 2
