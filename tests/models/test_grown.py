"""A base with added tokens: its tokenizer reads each as one, its new rows are means of known ones, the rest is as it
was; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from edgeft.errors import ModelError
from edgeft.models import base, grown
from edgeft.pipeline.digests import DigestCache, digest_source
from edgeft.pipeline.stage import Source
from tests.models_made import make_llama

TOKENS = ["<turn_on>", "<◆>"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for path in folder.glob("*.safetensors") for name, value in load_file(path).items()}


def test_references() -> None:
    for ref, tokens in (("builtin:sprout", TOKENS), ("org/name@main", ["a]+[b"]), ("some/folder", [])):
        assert grown.split(grown.joined(ref, tokens)) == (ref, tokens)
    assert grown.split("folder+[broken") == ("folder+[broken", [])
    assert grown.split("folder+[1, 2]") == ("folder+[1, 2]", [])


def test_one_that_is_not_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    found = [base.find(grown.joined(ref, TOKENS)) for ref in ("builtin:sprout", "org/name")]
    assert [(one.kind, one.folder) for one in found] == [("derived", None), ("hub", None)]
    source = Source("model", found[0].ref)
    digest = digest_source(source, base=tmp_path, models=base, cache=DigestCache(tmp_path / "digests.json"))
    assert (digest.digest, digest.comes) == (None, "made")


@pytest.mark.parametrize(("tied", "shard_size"), [(True, "5GB"), (False, "400KB")])
def test_the_base_with_tokens(tied: bool, shard_size: str, tmp_path: Path) -> None:
    folder = make_llama(tmp_path / "base", tied=tied, shard_size=shard_size)
    ref = grown.joined(str(folder), TOKENS)
    assert base.find(ref).folder is None  # nothing is made before it is asked for
    place = base.resolve(ref)
    assert base.find(ref) == base.Base(ref, "folder", place)
    assert base.resolve(ref) == place
    assert base.reference_of(place) == ref
    tokenizer = AutoTokenizer.from_pretrained(place)
    ids = tokenizer(f"Turn{TOKENS[0]} it{TOKENS[1]}{TOKENS[1]}")["input_ids"]
    assert [i for i in ids if i >= 320] == [320, 321, 321]
    assert grown.tokens_of(place) == {TOKENS[0]: 320, TOKENS[1]: 321}
    assert TOKENS[0] in tokenizer.decode(ids, skip_special_tokens=True)
    old, new = tensors(folder), tensors(place)
    assert set(old) == set(new)
    words = AutoTokenizer.from_pretrained(folder)("turn on")["input_ids"]
    longer = {"model.embed_tokens.weight", *(() if tied else {"lm_head.weight"})}
    for name, value in old.items():
        if name not in longer:
            assert torch.equal(value, new[name]), name
            continue
        assert new[name].shape == (322, 256)
        assert torch.equal(new[name][:320], value)
        assert torch.equal(new[name][320], value[words].float().mean(dim=0).to(torch.bfloat16))
        assert torch.equal(new[name][321], value.float().mean(dim=0).to(torch.bfloat16))
    model = AutoModelForCausalLM.from_pretrained(place)
    assert model(input_ids=torch.tensor([ids])).logits.shape[-1] == 322


def test_rows_behind_the_vocabulary_are_taken_first(tmp_path: Path) -> None:
    folder = make_llama(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    wider = AutoModelForCausalLM.from_pretrained(folder)
    wider.resize_token_embeddings(384, mean_resizing=False)
    wider.save_pretrained(folder)
    place = base.resolve(grown.joined(str(folder), TOKENS))
    assert config["vocab_size"] == 320
    assert json.loads((place / "config.json").read_text())["vocab_size"] == 384
    assert tensors(place)["model.embed_tokens.weight"].shape == (384, 256)


def test_what_is_refused(tmp_path: Path, cache: Path) -> None:
    folder = make_llama(tmp_path / "base")
    for token in ("<|im_end|>", "a"):
        with pytest.raises(ModelError, match=r"is a token of the base model already") as raised:
            base.resolve(grown.joined(str(folder), [token]))
        assert "train.trainable_tokens" in str(raised.value)
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(ModelError, match=r"tokens can be added to a tokenizer.json only"):
        base.resolve(grown.joined(str(folder), TOKENS))
    assert not list(cache.rglob("*.partial"))
