from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft import files
from edgeft.artifact import Artifact
from edgeft.errors import Interrupted, ModelError
from edgeft.stages.cases import answered
from tests.evals.fakes import FakeRuntime, byte_ids, chatml
from tests.stages.made_run import MadeRun, answers

Judge = Callable[..., Artifact]


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """verify one file, given as keywords of a fake runtime, against a trained model that is right on 95 %."""
    made = MadeRun(tmp_path, monkeypatch)
    trained = FakeRuntime(answers(0.95), name="hf+adapter", skill=2.0)
    made.evaluate(FakeRuntime(), trained)

    def verify(*lines: str, share: float = 0.95, **keywords: Any) -> Artifact:
        file = FakeRuntime(answers(share), name="gguf q8_0", skill=2.0, **keywords)
        return made.verify("gguf-q8_0", file, trained, *lines)

    return verify


def checks(found: Artifact) -> dict[str, bool]:
    return {check["gate"]: check["passed"] for check in files.read_json(found.file("verdict.json"))["checks"]}


def test_a_faithful_file_passes(judge: Judge) -> None:
    found = judge("gguf-q8_0.task.exact_match drop <= 0.05", "gguf-q8_0.mean_kl <= 0.01", noise=0.01)
    assert found.passed
    assert all(checks(found).values())
    assert len(checks(found)) == 8
    assert found.facts["sentence"] == "the file gguf-q8_0 passes 8 checks; 1 undecided: too few rows to tell"
    assert found.facts["token_ids_equal"] == 1.0
    assert 0 < found.facts["mean_kl"] < 0.01
    fidelity = files.read_json(found.file("fidelity.json"))
    assert fidelity["logits"]["rows"] == 12
    assert fidelity["tokens"]["n"] == 80
    assert fidelity["answers"]["same"] == fidelity["answers"]["n"] == 40
    assert files.read_json(found.file("summary.json"))["task"]["exact_match"]["value"] == 0.95
    assert found.measurements["latency"]["tokens_per_second"] > 0
    assert found.volatile == ("speed.json",)


@pytest.mark.parametrize(
    ("broken", "caught"),
    [
        ({"encode": lambda text: byte_ids(text.replace("2", "3"))}, "token ids equal"),
        ({"render": lambda messages, prompt: chatml(messages, prompt).replace("user", "human")}, "rendering equal"),
        ({"stop_ids": (5,)}, "stop tokens equal"),
        ({"noise": 4.0}, "the same model"),
        ({"stops": False}, "stops where the trained model stops"),
        ({"refuses": "the graph has no output"}, "runs in its own runtime"),
    ],
)
def test_broken_files_are_caught_and_named(judge: Judge, broken: dict[str, Any], caught: str) -> None:
    found = judge(**broken)
    failed = [name for name, passed in checks(found).items() if not passed]
    assert not found.passed
    assert caught in failed
    assert any(why.startswith(caught) for why in found.facts["why"])
    assert found.facts["sentence"].startswith("the file gguf-q8_0 fails ")


def test_a_wrong_template_leaves_the_tokenizer_alone(judge: Judge) -> None:
    found = judge(render=lambda messages, prompt: chatml(messages, prompt).replace("user", "human"))
    assert checks(found)["token ids equal"]
    assert checks(found)["the same model"]


def test_gates_of_the_file(judge: Judge) -> None:
    found = judge("gguf-q8_0.task.exact_match drop <= 0.01", "gguf-q8_0.top1_agreement >= 0.99", share=0.5, noise=1.0)
    failed = [name for name, passed in checks(found).items() if not passed]
    assert failed == [
        "the same model",
        "gguf-q8_0.task.exact_match drop <= 0.01",
        "gguf-q8_0.top1_agreement >= 0.99",
    ]


def test_gates_of_a_file_that_does_not_run_fail(judge: Judge) -> None:
    found = judge("gguf-q8_0.task.exact_match >= 0.1", "gguf-q8_0.mean_kl <= 9", refuses="no such operator")
    assert list(checks(found).values()) == [False, False, False]
    assert not (found.path / "fidelity.json").exists()
    assert found.volatile == ()


def test_a_file_that_cannot_be_opened_is_a_verdict_not_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MadeRun(tmp_path, monkeypatch)
    trained = FakeRuntime(answers())
    made.evaluate(FakeRuntime(), trained)

    def refuse(export: Artifact) -> FakeRuntime:
        raise ModelError("not a GGUF file", where=export.path)

    setattr_ = monkeypatch.setattr
    monkeypatch.setattr(
        monkeypatch,
        "setattr",
        lambda where, name, value: setattr_(where, name, refuse if name == "open_export" else value),
    )
    found = made.verify("gguf-f16", FakeRuntime(), trained)
    assert not found.passed
    assert "not a GGUF file" in found.facts["why"][0]


def test_an_interruption_is_not_a_verdict(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeft.evals import fidelity

    def interrupt(*_: Any, **__: Any) -> None:
        raise Interrupted

    monkeypatch.setattr(fidelity, "examine", interrupt)
    with pytest.raises(Interrupted):
        judge()


def test_rows_end_with_their_last_answer() -> None:
    turn = {"role": "user", "content": "q"}
    said = {"role": "assistant", "content": "a"}
    rows = [
        {"id": "1", "messages": [turn, said, turn]},
        {"id": "2", "messages": [turn]},
        {"id": "3", "messages": [said]},
    ]
    (case,) = answered(rows)
    assert (case.id, case.messages, case.expected) == ("1", (turn,), "a")
