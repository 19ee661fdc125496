"""Every family against llama.cpp's own converter (tensors and metadata) and quantizer (the whole file, byte for byte).

The last test prints the table of what is equal; `pytest -m slow -s` shows it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exporters.gguf.converter import convert_many, source_folder
from tests.exporters.gguf.families_made import MODELS, make_model
from tests.exporters.gguf.made import requantized
from tests.exporters.gguf.test_converter import OTHERWISE, OURS, THEIRS, contents
from tests.exporters.gguf.test_families import MORE, gguf_of, llama_cpp_says, transformers_says

pytestmark = pytest.mark.slow

TYPES = ("bf16", "f16", "q8_0")
COLUMNS = ("tensors", "metadata", "quantized", "greedy text")
seen: dict[str, dict[str, str]] = {}


@pytest.fixture(scope="module")
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder NAME/base with each chosen model and NAME/TYPE.gguf by llama.cpp's converter, all in one process."""
    folder = tmp_path_factory.mktemp("converted")
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    chosen = {values["name"] for values in parameters if "name" in values} & set(MODELS)
    source = source_folder(tmp_path_factory.mktemp("llama.cpp"))
    jobs = []
    for name in sorted(chosen):
        base = make_model(folder / name / "base", name)
        if not MODELS[name].unconverted:
            jobs += [(base, folder / name / f"{type_name}.gguf", type_name) for type_name in TYPES]
    convert_many(source, jobs)
    return folder


def note(name: str, column: str, value: str) -> None:
    seen.setdefault(name, {})[column] = value


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("name", [name for name, row in MODELS.items() if not row.unconverted])
def test_equals_llama_cpps_converter(name: str, type_name: str, converted: Path, tmp_path: Path) -> None:
    ours, our_tensors = contents(gguf_of(converted / name / "base", type_name, tmp_path / "ours"))
    theirs, their_tensors = contents(converted / name / f"{type_name}.gguf")
    note(name, "tensors", "differ")
    note(name, "metadata", "differ")
    if type_name == "q8_0":  # a quantized file has the order of llama.cpp's quantizer, see the next test
        assert sorted(our_tensors) == sorted(their_tensors)
    else:
        assert list(our_tensors) == list(their_tensors)
    for tensor, (kind, shape, data) in their_tensors.items():
        if type_name == "q8_0":  # and its shapes: no outer dimensions of 1
            shape = shape[:1] if shape[1:] == (1,) else shape
        assert our_tensors[tensor] == (kind, shape, data), tensor
    note(name, "tensors", f"{len(our_tensors)} equal")
    assert set(ours) - set(theirs) <= set(OURS)
    assert set(theirs) - set(ours) <= set(THEIRS)
    different = {key for key in set(ours) & set(theirs) if ours[key] != theirs[key]}
    assert different <= set(OTHERWISE), {key: (ours[key], theirs[key]) for key in different}
    note(name, "metadata", f"{len(set(ours) & set(theirs)) - len(different)} equal")


@pytest.mark.parametrize("name", MODELS)
def test_quantized_byte_for_byte(name: str, converted: Path, tmp_path: Path) -> None:
    base = converted / name / "base"
    plain = gguf_of(base, "bf16", tmp_path / "plain")
    ours = gguf_of(base, "q4_k_m", tmp_path / "ours")
    note(name, "quantized", "differ")
    assert ours.read_bytes() == requantized(plain, "q4_k_m", tmp_path / "theirs.gguf")
    note(name, "quantized", f"{ours.stat().st_size} bytes equal")


@pytest.mark.parametrize("name", MODELS)
def test_the_same_greedy_text(name: str, converted: Path, tmp_path: Path) -> None:
    base = converted / name / "base"
    _, want = transformers_says(base, MORE)
    _, found = llama_cpp_says(gguf_of(base, "f32", tmp_path / "out"), MORE)
    note(name, "greedy text", "differ")
    assert found == want
    note(name, "greedy text", f"{MORE} tokens equal")


def test_the_table() -> None:
    """Prints what the tests above have found, one row for each model."""
    if not seen:
        pytest.skip("nothing was compared")
    print("\n" + " | ".join(f"{title:18}" for title in ("model", *COLUMNS)))
    for name, found in seen.items():
        print(" | ".join(f"{text:18}" for text in (name, *(found.get(column, "-") for column in COLUMNS))))
    assert all("equal" in value for found in seen.values() for value in found.values())
