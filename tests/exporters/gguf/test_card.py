"""The README.md and the metadata: where a file comes from, as hubs read it, with nothing of this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
from ruamel.yaml import YAML

from edgeft import __version__
from edgeft.exporters import ExportSource
from edgeft.exporters.gguf import card
from edgeft.exporters.gguf.export import export
from edgeft.files import digest_file
from edgeft.models.origin import origin_of
from tests.models_made import make_adapter, make_llama

CARD = "---\nlicense: apache-2.0\nlanguage: [en, de]\ntags: [x]\n---\n# A base\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base in the layout of the hub's cache, and an adapter of it with a training.json."""
    root = tmp_path_factory.mktemp("hub")
    base = root / "models--some-org--Small-1.0" / "snapshots" / "abc123"
    make_llama(base, hidden=64, intermediate=96, head_dim=16)
    (base / "README.md").write_text(CARD)
    adapter = make_adapter(root / "adapter", base)
    training = {
        "steps": 1234,
        "data": {"rows": 5678, "trained_tokens": 90123},
        "settings": {"adapter": "qlora", "lora_r": 8},
        "datasets": ["/home/someone/secret/rows.jsonl", "some-org/chats"],
    }
    (adapter / "training.json").write_text(json.dumps(training))
    return base, adapter


def source_of(made: tuple[Path, Path], **changes: Any) -> ExportSource:
    base, adapter = made
    return ExportSource(base, adapter, name="small-tuned", base_ref="some-org/Small-1.0@main", **changes)


def shipped(no_modelfile: str | None = None) -> card.Shipped:
    return card.Shipped("small-tuned-q8_0.gguf", "q8_0, 8.5 bits a weight", 7_000_000, no_modelfile)


def front(text: str) -> dict[str, Any]:
    found = YAML(typ="safe").load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_metadata(made: tuple[Path, Path], tmp_path: Path) -> None:
    done = export(source_of(made), "q8_0", tmp_path, {"threads": 1})
    fields = {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / done.facts["file"]).fields.items()}
    wanted = {
        "general.name": "small-tuned",
        "general.finetune": "small-tuned",
        "general.license": "apache-2.0",
        "general.base_model.count": 1,
        "general.base_model.0.name": "Small-1.0",
        "general.base_model.0.organization": "some-org",
        "general.base_model.0.repo_url": "https://huggingface.co/some-org/Small-1.0",
        "general.tags": ["edgeft", "text-generation"],
        "general.languages": ["en", "de"],
        "general.datasets": ["rows.jsonl", "some-org/chats"],
        "edgeft.version": __version__,
        "edgeft.adapter.digest": digest_file(made[1] / "adapter_model.safetensors"),
        "edgeft.merge_base": "pristine",
    }
    assert {name: fields.get(name) for name in wanted} == wanted
    assert done.facts["modelfile"] == "Modelfile"


def test_the_card(made: tuple[Path, Path]) -> None:
    text = card.readme(source_of(made), shipped())
    assert front(text) == {
        "base_model": "some-org/Small-1.0",
        "base_model_relation": "finetune",
        "license": "apache-2.0",
        "language": ["en", "de"],
        "datasets": ["rows.jsonl", "some-org/chats"],
        "pipeline_tag": "text-generation",
        "tags": ["gguf", "edgeft", "llama.cpp", "lora"],
    }
    for line in (
        "    llama-cli -m small-tuned-q8_0.gguf --jinja",
        "    lms import small-tuned-q8_0.gguf",
        "    ollama create small-tuned -f Modelfile",
        '    model = Llama("small-tuned-q8_0.gguf", n_ctx=0, verbose=False)',
        "| rows | 5,678 |",
        "| steps | 1,234 |",
        "| datasets | rows.jsonl, some-org/chats |",
    ):
        assert line in text.splitlines()


def test_nothing_of_this_machine(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    """A base in a folder is called by the folder's name, wherever it lies and however it was named."""
    base = Path(shutil.copytree(tiny_llama, tmp_path / "private" / "my-base"))
    for ref in (str(base), "../private/my-base", "private/my-base", "./my-base/"):
        source = ExportSource(base, tiny_adapter, merge_base="pristine", name="x", base_ref=ref)
        told = card.readme(source, shipped()) + repr(list(card.lineage(source)))
        assert "my-base" in told
        assert "private" not in told
        assert str(tmp_path) not in told
        assert "base_model:" not in told  # it is not on the hub
        assert origin_of(source.base, source.base_ref).organization == ""


def test_examples_have_the_system_message_of_training(made: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = made
    taught = tmp_path / "adapter"
    shutil.copytree(adapter, taught)
    table = json.loads((taught / "training.json").read_text()) | {"system": 'Be "brief".'}
    (taught / "training.json").write_text(json.dumps(table))
    source = source_of((base, taught))
    for text in (card.readme(source, shipped()), card.lora_readme(source, shipped(), "base.gguf", beside=True)):
        assert r"""    messages = [{"role": "system", "content": "Be \"brief\"."}]""" in text.splitlines()
        assert text.count("--jinja -sys 'Be \"brief\".'\n") == 1
    plain = card.readme(source_of(made), shipped())
    assert "    messages = []" in plain.splitlines()
    assert "-sys" not in plain


def test_no_modelfile_and_why(made: tuple[Path, Path]) -> None:
    text = card.readme(source_of(made), shipped("the chat template writes the date of the day"))
    assert "There is no Modelfile: the chat template writes the date of the day." in text
    assert "ollama create" not in text


def test_names_from_outside_are_escaped(made: tuple[Path, Path], tmp_path: Path) -> None:
    base = Path(shutil.copytree(made[0], tmp_path / "b`a|d](x)<script>"))
    (base / "README.md").write_text(
        '---\nlicense: "x\\n# evil"\nlanguage: ["en", "<b>", 3, "' + "y" * 100 + '"]\n---\n'
    )
    name = "evil\n# heading `code` <img src=x> \u202e"
    text = card.readme(ExportSource(base, made[1], merge_base="pristine", name=name, base_ref=str(base)), shipped())
    assert front(text)["language"] == ["en"]
    assert "license" not in front(text)
    assert "<script>" not in text.replace("`ba|d](x)<script>`", "")  # in a code span it is text
    assert "\n# heading" not in text
    assert "\\<img" in text
    assert "\u202e" not in text
    assert "ollama create evil-heading-code-img-src-x -f" in text


@pytest.mark.parametrize(
    ("card_text", "license_text", "found"),
    [
        (CARD, "", "apache-2.0"),
        ("no front matter", "                 Apache License\n           Version 2.0, January 2004", "apache-2.0"),
        ("", "MIT License\n\nCopyright", "mit"),
        ("", "LLAMA 3.2 COMMUNITY LICENSE AGREEMENT", "llama3.2"),
        ("---\nlicense: other\nlicense_name: Special-1\n---\n", "", "special-1"),
        ("---\nlicense: [mit]\n---\n", "", "mit"),
        ("---\na: &a [x, x]\nb: [*a, *a]\nlicense: mit\n---\n", "", ""),
        ("---\nlicense: !!python/object:os.system x\n---\n", "", ""),
        ("---\n- a list\n---\n", "All rights reserved", ""),
        ("---\nlicense: mit\n", "", ""),
        ("---\n{{{\n---\n", "", ""),
    ],
)
def test_the_licence_when_it_can_be_told(card_text: str, license_text: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card_text)
    if license_text:
        (tmp_path / "LICENSE.txt").write_text(license_text)
    assert origin_of(tmp_path, "x").license == found


def test_the_base_alone_is_a_quantized_one(made: tuple[Path, Path]) -> None:
    text = card.readme(ExportSource(made[0], name="Small", base_ref="some-org/Small-1.0"), shipped())
    assert front(text)["base_model_relation"] == "quantized"
    assert "## Training" not in text
    keys = {key for key, _, _ in card.lineage(ExportSource(made[0], name="Small", base_ref="some-org/Small-1.0"))}
    assert not keys & {"general.finetune", "edgeft.adapter.digest", "edgeft.merge_base"}


def test_a_file_in_shards_says_how_to_join_them(tiny_llama: Path, tmp_path: Path) -> None:
    """llama.cpp opens the first shard; Ollama takes whole files only, so there is no Modelfile."""
    done = export(ExportSource(tiny_llama, name="big", base_ref="x"), "f16", tmp_path, {"max_shard_size": "1MB"})
    first = str(done.facts["file"])
    text = (tmp_path / "README.md").read_text()
    assert f"    llama-cli -m {first} --jinja" in text
    assert f"Ollama takes no shards; llama-gguf-split --merge {first} OUT joins them" in text
    assert not (tmp_path / "Modelfile").exists()
