"""When the kernels are taken: checked against the installed library once, remembered, left alone where they differ."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.errors import EdgeftError, InputError, MissingError
from edgeft.exporters.gguf import ggml, quantize
from edgeft.exporters.gguf.kquants import cache, run, trust
from edgeft.exporters.gguf.kquants.source import Rows
from edgeft.exporters.gguf.quantize import Quantizer
from edgeft.progress import Progress

VALUES = np.random.default_rng(0).standard_normal((8, 512), dtype=np.float32)


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for what the self-check finds."""
    monkeypatch.setattr(trust.cache, "folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library whose quantizer rounds one value otherwise."""
    right = ggml.encoded

    def encoded(name: str, values: Any, importance: Any = None) -> Any:
        found = right(name, values, importance)
        found[-1, -1] ^= 1
        return found

    monkeypatch.setattr(ggml, "encoded", encoded)


def test_it_is_checked_once(apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Quantizer(1) as quantizer:
        assert quantizer.fast("Q4_K")
    assert not quantizer.notes
    (kept,) = apart.glob("checked-*.json")
    assert json.loads(kept.read_text()) == {"Q4_K": True}
    monkeypatch.setattr(trust, "agrees", lambda *_: pytest.fail("checked again"))
    with Quantizer(1) as quantizer:
        assert quantizer.fast("Q4_K")


@pytest.mark.usefixtures("patched")
def test_other_bytes_of_the_library_fall_back_to_it(apart: Path) -> None:
    with Quantizer(1) as quantizer:
        made = quantizer.quantize(Rows(VALUES), "Q4_K")
        assert np.array_equal(made, ggml.encoded("Q4_K", VALUES)), "the library's bytes, as they are"
    assert quantizer.notes == [
        "the kernel of Q4_K does not give the bytes of the installed llama-cpp-python: "
        "ggml quantizes, which takes longer"
    ]
    assert quantizer.measurements()["quantizer_notes"] == quantizer.notes
    (kept,) = apart.glob("checked-*.json")
    assert json.loads(kept.read_text()) == {"Q4_K": False}


@pytest.mark.usefixtures("patched", "apart")
def test_fast_does_not_fall_back() -> None:
    with Quantizer(1, "fast") as quantizer, pytest.raises(EdgeftError, match="does not give the bytes") as caught:
        quantizer.quantize(Rows(VALUES), "Q4_K")
    assert caught.value.do == "take quantizer auto or ggml"


def test_another_library_is_checked_anew(apart: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one.so", tmp_path / "other.so"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    assert trust.trusted("Q4_K", one, ggml.encoded)
    assert trust.trusted("Q4_K", other, ggml.encoded)
    assert len(list(apart.glob("checked-*.json"))) == 2


def test_a_damaged_memory_is_checked_anew(apart: Path) -> None:
    assert trust.trusted("Q4_K", ggml.library_path(), ggml.encoded)
    (kept,) = apart.glob("checked-*.json")
    for damage in ("", "[1]", '{"Q4_K": "yes"}'):
        kept.write_text(damage)
        assert trust.trusted("Q4_K", ggml.library_path(), ggml.encoded)
        assert json.loads(kept.read_text()) == {"Q4_K": True}


def test_without_numba_ggml_works(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(quantize.importlib.util, "find_spec", lambda name: None if name == "numba" else found(name))
    with Quantizer(1) as quantizer:
        assert np.array_equal(quantizer.quantize(Rows(VALUES), "Q4_K"), ggml.encoded("Q4_K", VALUES))
    assert quantizer.notes == ["numba is not installed: ggml quantizes, which takes longer"]
    with Quantizer(1, "fast") as quantizer, pytest.raises(MissingError, match="needs numba"):
        quantizer.quantize(Rows(VALUES), "Q4_K")


def test_ggml_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "encode", lambda *_: pytest.fail("a kernel was used"))
    with Quantizer(2, "ggml") as quantizer:
        assert np.array_equal(quantizer.quantize(Rows(VALUES), "Q6_K"), ggml.encoded("Q6_K", VALUES))
    assert quantizer.measurements() == {"fast_types": []}


def test_auto_takes_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    with Quantizer(2) as quantizer:
        assert quantizer.fast("Q6_K")
        monkeypatch.setattr(ggml, "encoded", lambda *_: pytest.fail("ggml was used"))
        quantizer.quantize(Rows(VALUES), "Q6_K")
    assert quantizer.measurements() == {"fast_types": ["q6_k"]}


def test_types_without_a_kernel_are_ggmls() -> None:
    with Quantizer(2, "fast") as quantizer:
        assert np.array_equal(quantizer.quantize(Rows(VALUES), "Q5_0"), ggml.encoded("Q5_0", VALUES))


def test_an_unknown_quantizer() -> None:
    with pytest.raises(InputError, match="unknown quantizer 'quick'"):
        Quantizer(1, "quick")


def test_compiling_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeft.exporters.gguf.kquants import compiled

    said: list[Progress] = []
    for ready in (True, False):
        monkeypatch.setattr(compiled, "ready", lambda _, ready=ready: ready)
        with Quantizer(1, listen=said.append) as quantizer:
            quantizer.fast("Q4_K")
    assert [one.what for one in said] == ["compiling the Q4_K kernel, once on this machine"]


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache.sys, "platform", "linux")
    assert cache.folder.__wrapped__() == tmp_path / "edgeft" / "kquants" / cache.source_digest()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert not cache.folder.__wrapped__().is_relative_to(tmp_path)


def test_a_cache_whose_place_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edgeft").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = cache.folder.__wrapped__()
    assert found.is_dir()
    assert not found.is_relative_to(tmp_path)
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
