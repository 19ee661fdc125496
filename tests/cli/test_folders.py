"""`edgeft merge|export|eval|verify|train` on folders, for real, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft import artifact
from edgeft.cli.main import main
from tests.models_made import make_adapter

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    turns = [("Turn the light on.", "ok"), ("Turn the light off.", "done"), ("What is 3 plus 4?", "7")]
    with path.open("w", encoding="utf-8") as stream:
        for question, answer in turns:
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            stream.write(json.dumps({"messages": messages}) + "\n")
    return path


def told(capsys: Captured, *arguments: object) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json"]) == 0, capsys.readouterr().err
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_merge_gives_peft_s_own_merge(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, capsys: Captured) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    out = tmp_path / "merged"
    result = told(capsys, "merge", "--base", tiny_llama, "--adapter", tiny_adapter, "--out", out)
    assert (result["kind"], result["path"]) == ("model", str(out))
    assert artifact.load(out).digest == result["digest"]
    ours = AutoModelForCausalLM.from_pretrained(out, dtype=torch.bfloat16).state_dict()
    base = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.bfloat16)
    theirs = PeftModel.from_pretrained(base, tiny_adapter).merge_and_unload().state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=2e-2) for name in ours)


def test_several_adapters_are_combined_and_recorded(
    tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, capsys: Captured
) -> None:
    import torch
    from safetensors.torch import load_file

    other = make_adapter(tmp_path / "other", tiny_llama, seed=4)
    both = ("merge", "--base", tiny_llama, "--adapter", tiny_adapter, "--adapter", other)
    chosen = ("--weights", "0.7,0.3", "--method", "ties", "--density", "0.5")
    result = told(capsys, *both, *chosen, "--out", tmp_path / "ties")
    record = result["facts"]["combined"]
    assert (record["method"], record["weights"], record["density"]) == ("ties", [0.7, 0.3], 0.5)
    assert [entry["name"] for entry in record["adapters"]][1] == "other"
    told(capsys, *both, "--out", tmp_path / "linear")
    name = "model.layers.0.mlp.up_proj.weight"
    ties, linear = (load_file(tmp_path / kind / "model.safetensors")[name] for kind in ("ties", "linear"))
    assert not torch.equal(ties, linear)
    told(capsys, *both, *chosen, "--out-adapter", tmp_path / "combined")
    told(capsys, "merge", "--base", tiny_llama, "--adapter", tmp_path / "combined", "--out", tmp_path / "again")
    assert torch.equal(load_file(tmp_path / "again" / "model.safetensors")[name], ties)
    assert main([*map(str, both), "--method", "tie", "--out-adapter", str(tmp_path / "x")]) == 2
    assert not [path for path in tmp_path.iterdir() if "x" in path.name]
    assert "unknown method 'tie'" in capsys.readouterr().err


def test_scaled_merge_and_its_check(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, capsys: Captured) -> None:
    one = ("merge", "--base", tiny_llama, "--adapter", tiny_adapter)
    result = told(capsys, *one, "--scale", "0.8", "--out", tmp_path / "merged")
    assert result["facts"]["combined"]["weights"] == [0.8]
    found = told(capsys, *one, "--scale", "0.8", "--check", tmp_path / "merged")
    assert (found["restored"], found["changed"]) == (True, 14)
    assert found["largest_ulp"] <= 0.51
    assert main([*map(str, one), "--check", str(tmp_path / "merged")]) == 4
    assert "not restored within rounding" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "one of --out, --check and --out-adapter"),
        (("--out-adapter", "x"), "needs several adapters or --scale"),
        (("--method", "ties", "--out", "x"), "for several adapters"),
        (("--adapter", "b", "--scale", "0.5", "--out", "x"), "--scale is for one adapter"),
        (("--merge-base", "auto", "--out", "OUT"), "which only a recipe makes"),
        (("--adapter", "b", "--weights", "a,b", "--out", "x"), "not a list of numbers"),
    ],
)
def test_merge_options_that_contradict(
    tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, capsys: Captured, options: tuple[str, ...], says: str
) -> None:
    given = [str(tmp_path / "out") if option == "OUT" else option for option in options]
    assert main(["merge", "--base", str(tiny_llama), "--adapter", str(tiny_adapter), *given]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_overwritten(
    tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, capsys: Captured
) -> None:
    code = main(["merge", "--base", str(tiny_llama), "--adapter", str(tiny_adapter), "--out", str(tmp_path)])
    assert code == 2
    assert capsys.readouterr().err == f"{tmp_path}: this is there already\n  choose another folder or remove it\n"


def test_an_adapter_that_is_none(tiny_llama: Path, tmp_path: Path, capsys: Captured) -> None:
    code = main(["merge", "--base", str(tiny_llama), "--adapter", str(tiny_llama), "--out", str(tmp_path / "x")])
    assert code == 2
    assert capsys.readouterr().err == f"{tiny_llama}: there is no adapter here (no adapter_config.json)\n"
    assert list(tmp_path.iterdir()) == []


def test_export_then_verify_then_eval(
    tiny_llama: Path, tiny_adapter: Path, rows: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "q8"
    base = ("--base", tiny_llama, "--adapter", tiny_adapter)
    result = told(capsys, "export", *base, "--type", "gguf-q8_0", "--out", out)
    assert result["kind"] == "gguf"
    (file,) = out.glob("*.gguf")
    verdict = told(capsys, "verify", file, *base, "--data", rows, "--out", tmp_path / "verdict")
    assert verdict["passed"]
    assert verdict["facts"]["token_ids_equal"] == 1.0
    scores = told(capsys, "eval", file, "--suite", f"mine={rows}", "--out", tmp_path / "scores")
    assert scores["summary"]["mine"]["exact_match"]["n"] == 3
    assert json.loads((tmp_path / "scores" / "summary.json").read_text()) == scores["summary"]


def test_verify_finds_the_wrong_model(tiny_llama: Path, rows: Path, tmp_path: Path, capsys: Captured) -> None:
    adapter = make_adapter(tmp_path / "strong", tiny_llama, strength=0.3)
    out = tmp_path / "base-only"
    told(capsys, "export", "--base", tiny_llama, "--type", "gguf-f16", "--out", out)
    base = ["--base", str(tiny_llama), "--adapter", str(adapter)]
    code = main(["verify", str(out), *base, "--data", str(rows), "--out", str(tmp_path / "verdict")])
    captured = capsys.readouterr()
    assert code == 4, captured.err
    assert "failed" in captured.out
    assert (tmp_path / "verdict" / "fidelity.json").is_file()


def test_eval_prints_a_table(tiny_llama: Path, rows: Path, capsys: Captured) -> None:
    assert main(["eval", str(tiny_llama), "--suite", str(rows), "--max-tokens", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["hf", "metric", "value"]
    assert [line.split()[:2] for line in lines[1:]] == [["rows", "exact_match"], ["rows", "loss"]]
    assert max(map(len, lines)) <= 80


def test_an_unknown_export_gets_a_suggestion(capsys: Captured) -> None:
    assert main(["export", "--base", "x", "--type", "gguf-q8", "--out", "y"]) == 2
    assert capsys.readouterr().err == (
        "edgeft: unknown export 'gguf-q8'; did you mean 'gguf-q8_0'?\n  try: edgeft export --help\n"
    )


def test_train_takes_the_recipe_s_keys_and_checks_them(tmp_path: Path, capsys: Captured) -> None:
    from edgeft.recipe.training import TrainSection

    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    for name in TrainSection.model_fields:
        assert f"--{name.replace('_', '-')}" in shown
    out = ["--out", str(tmp_path / "adapter")]
    data = tmp_path / "data"
    data.mkdir()
    assert main(["train", "--base", "x", "--data", str(data), *out, "--lora-r", "0", "--learning-rate", "-1"]) == 2
    assert capsys.readouterr().err == (
        "edgeft: --lora-r: input should be greater than or equal to 1\n"
        "edgeft: --learning-rate: input should be greater than 0\n"
    )


def test_train_options_reach_the_stage(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeft import files
    from edgeft.artifact import Outcome, finish

    seen: dict[str, Any] = {}

    def run(params: Any, inputs: Any, work: Any) -> Outcome:
        seen.update(params.model_dump())
        files.write_json(work.folder / "adapter_config.json", {})
        return Outcome("adapter")

    monkeypatch.setattr("edgeft.stages.train.run", run)
    data = tmp_path / "data"
    data.mkdir()
    (data / "stats.json").write_text("{}")
    finish(data, Outcome("dataset"), stage="data", fingerprint="f", params={}, inputs={}, environment={})
    line = ["train", "--base", str(tiny_llama), "--data", str(data), "--out", str(tmp_path / "a"), "--seed", "3"]
    line += ["--lora-target-modules", "q_proj,v_proj", "--max-steps", "7", "--gradient-checkpointing"]
    assert main([*line, "--lr-scheduler", "linear", "--learning-rate", "1e-3"]) == 0
    assert (seen["seed"], seen["max_steps"], seen["lr_scheduler"], seen["learning_rate"]) == (3, 7, "linear", 1e-3)
    assert seen["lora_target_modules"] == ["q_proj", "v_proj"]
    assert seen["gradient_checkpointing"] is True
    assert seen["lora_r"] == 16


def test_sizes_are_those_of_the_files(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, capsys: Captured) -> None:
    given = ("--base", tiny_llama, "--adapter", tiny_adapter)
    assert main([*map(str, ("export", *given, "--sizes", "--json"))]) == 0
    sizes = {row["type"]: row for row in json.loads(capsys.readouterr().out)}
    result = told(capsys, "export", *given, "--type", "gguf-q4_k_m", "--out", tmp_path / "out")
    assert result["facts"]["size"] == sizes["q4_k_m"]["bytes"]
    options = ("--tensor-type", "ffn_(up|gate)=q8_0", "--token-embedding-type", "q4_0", "--max-shard-size", "200KB")
    result = told(capsys, "export", *given, "--type", "gguf-q4_k_m", *options, "--out", tmp_path / "more")
    assert len(result["facts"]["shards"]) > 1
    assert result["facts"]["tensors"]["q8_0"] == 4
    assert main([*map(str, ("export", *given, *options, "--sizes"))]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("gguf-q4_k_m "))
    assert f" {result['facts']['size']:,} " in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--sizes", "--type", "gguf-q8_0"), "--sizes builds nothing"),
        (("--type", "gguf-q8_0"), "--out is missing"),
        (("--out", "x"), "--type is missing"),
        (("--type", "onnx-int4", "--out", "x", "--imatrix", "m.gguf"), "--imatrix is an option of GGUF"),
        (("--type", "onnx-int4", "--out", "x", "--max-shard-size", "1GB"), "--max-shard-size is an option of GGUF"),
        (("--type", "onnx-int4", "--out", "x", "--quantizer", "fast"), "--quantizer is an option of GGUF"),
        (("--type", "gguf-q8_0", "--out", "x", "--tensor-type", "q8_0"), "PATTERN=TYPE"),
        (("--type", "gguf-q8_0", "--out", "x", "--token-embedding-type", "q8"), "unknown type of a tensor 'q8'"),
        (("--type", "gguf-iq1_s", "--out", "x"), "importance matrix"),
        (("--type", "gguf-q8_0", "--out", "x", "--imatrix", "m.gguf"), "there is no such file"),
    ],
)
def test_exports_that_cannot_be(
    tiny_llama: Path, arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--base", str(tiny_llama), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
