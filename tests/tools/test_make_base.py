"""The embedded base model: its corpus, its maker and the files that ship."""

import json
import shutil
from pathlib import Path

import pytest

from tools.base import corpus, pipeline
from tools.base import tokenizer as chatml

ROOT = Path(__file__).parents[2]
SPROUT = ROOT / "edgeft" / "models" / "builtin" / "sprout"
SUITES = ROOT / "edgeft" / "evals" / "general"


def test_corpus_is_the_same_every_time() -> None:
    assert list(corpus.rows(300)) == list(corpus.rows(300))
    assert list(corpus.rows(300)) != list(corpus.rows(300, seed=1))


def test_phases_name_skills_that_exist_and_come_in_order() -> None:
    assert [start for start, _ in corpus.PHASES] == sorted(start for start, _ in corpus.PHASES)
    for _, shares in corpus.PHASES:
        assert set(shares) <= set(corpus.SOURCES) | {"stories", "bare cards"}
    for family in pipeline.FAMILIES:
        assert corpus.SKILLS[family] in [
            corpus.SOURCES[name] for name in corpus.PHASES[-1][1] if name in corpus.SOURCES
        ]


def test_corpus_holds_nothing_held_out(monkeypatch) -> None:
    held = [exchange for family in corpus.SKILLS for exchange in corpus.held_out(family, 60)]
    assert corpus.leaks(corpus.rows(2000), held) == []
    monkeypatch.setattr(corpus, "FIRST_ROWS", 0)
    for _, shares in corpus.PHASES:
        monkeypatch.setattr(corpus, "PHASES", ((0, shares),))
        assert corpus.leaks(corpus.rows(1500), held) == []


def test_leaks_are_found() -> None:
    row = next(row for row in corpus.rows(50) if row.exchanges)
    assert corpus.leaks([row], [row.exchanges[0]]) == [row.exchanges[0].ask]
    named = corpus.Row(text="Odile lives in Oslo.")
    assert corpus.leaks([named], []) == ["'Odile' in 'Odile lives in Oslo.'"]
    assert corpus.leaks([corpus.Row(text='{"tool":"x"}')], [])


def test_shipped_suites_are_the_held_out_rows(tmp_path) -> None:
    pipeline.write_suites(pipeline.held_out(pipeline.Settings().held_rows), tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in SUITES.glob("*.jsonl")}
    for path in tmp_path.iterdir():
        assert (SUITES / path.name).read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), path.name


def test_shipped_folder_is_small_and_its_widths_fit_k_quants() -> None:
    assert sum(path.stat().st_size for path in SPROUT.iterdir()) <= 15_000_000
    config = json.loads((SPROUT / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tie_word_embeddings"]
    assert config["head_dim"] % 16 == 0
    widths = ("hidden_size", "intermediate_size", "vocab_size")
    assert [config[width] % 256 for width in widths] == [0, 0, 0]
    assert config["num_attention_heads"] * config["head_dim"] % 256 == 0
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(SPROUT / "model.safetensors", "np") as weights:
        for name in weights.keys():  # noqa: SIM118 (not a mapping)
            tensor = weights.get_slice(name)
            assert tensor.get_dtype() == "BF16"
            assert tensor.get_shape()[-1] % 256 == 0, name


def test_shipped_card_names_licence_and_skills() -> None:
    card = (SPROUT / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
    for family in pipeline.FAMILIES:
        assert f"| {family} |" in card


def test_shipped_tokenizer_round_trips() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(SPROUT / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == chatml.VOCAB_SIZE
    for text in ("Set it to 40,\n\n please…", "naïve café 日本語 🙂", '{"name":"Mia","age":31}', "  two  spaces\t"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert [tokenizer.decode([i]) for i in tokenizer.encode("2026").ids] == list("2026")
    settings = json.loads((SPROUT / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not settings["add_bos_token"]


def test_shipped_template_renders_plain_chatml() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(SPROUT)
    turns = [("system", " Be kind. "), ("user", "Hi\n"), ("assistant", "Hello"), ("tool", "{}")]
    messages = [{"role": role, "content": content} for role, content in turns]
    expected = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    assert tokenizer.apply_chat_template(messages, tokenize=False) == expected
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        expected + "<|im_start|>assistant\n"
    )
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == ("<|im_end|>", "<|endoftext|>", None)


def test_wiring_makes_copying_cheap_from_the_start() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer

    from tools.base import training

    tokenizer = Tokenizer.from_file(str(SPROUT / "tokenizer.json"))
    model = training.build_model(training.Size(), tokenizer, training.Plan().seed)
    model.set_attn_implementation("eager")
    words = ("Mia", " red", " Tom", " blue", " Ana", " green", " Leo", " milk", " Tom")
    ids = [tokenizer.encode(word).ids[0] for word in words]
    first, second = model(torch.tensor([ids]), output_attentions=True).attentions[:2]
    assert first[0, 0].diagonal(-1).mean() > 0.9  # each token looks at the one before it
    assert second[0, 0, -1].argmax() == 3  # the second " Tom" at what came after the first


@pytest.mark.slow
def test_the_whole_path_works_and_repeats_itself(tmp_path) -> None:
    pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        quick = pipeline.settings(quick=True)
        made = [pipeline.make(tmp_path / n, tmp_path / f"{n}.work", quick) for n in ("one", "two")]
    finally:
        torch.set_num_threads(threads)
    assert made[0].digest == made[1].digest
    assert {path.name for path in (tmp_path / "one").iterdir()} == {path.name for path in SPROUT.iterdir()}


@pytest.mark.slow
def test_an_interrupted_training_ends_in_the_same_weights(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer

    from tools.base import training

    tokenizer = Tokenizer.from_file(str(SPROUT / "tokenizer.json"))
    plan = training.Plan(steps=4, batch=1, warmup=1, decay_steps=2)

    def weights(folder: Path, resume: bool) -> dict:
        model = training.build_model(training.Size(layers=1, intermediate=256), tokenizer, plan.seed)
        data = training.Blocks(corpus.rows, tokenizer, plan.block)
        training.train(model, data, plan, folder, resume=resume, save_every=2)
        return model.state_dict()

    whole = weights(tmp_path / "whole", resume=False)
    shutil.rmtree(tmp_path / "whole" / "checkpoint-4")
    again = weights(tmp_path / "whole", resume=True)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
