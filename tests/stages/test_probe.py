"""What every tune is asked: drift on neutral texts, rows known by heart, overfitting, leakage; gates read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeft import files
from edgeft.evals import drift, memorised
from edgeft.evals.encoded import encode
from edgeft.evals.suites import Case
from edgeft.recipe.names import PROBE
from edgeft.stages.probe import notes_in
from tests.evals.fakes import FakeRuntime
from tests.stages.made_run import MadeRun, answers, task_rows


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeRun:
    """Training and validation rows are the same here: nothing can be known better than the other."""
    run = MadeRun(tmp_path, monkeypatch)
    run.evaluate(FakeRuntime(answers(0.0)), FakeRuntime(answers(1.0), noise=0.2))
    return run


def test_every_figure_that_gates_may_name_is_measured(made: MadeRun) -> None:
    found = made.probe(rows=12)
    figures = files.read_json(found.file("figures.json"))
    assert set(figures) | {"leakage.validation"} == set(PROBE), "the made data counts no validation rows"
    assert figures["memorised.train"]["value"] == figures["memorised.validation"]["value"] == 1.0
    assert figures["memorised.train"]["n"] == 12
    assert figures["memorised.excess"]["value"] == 0.0
    assert figures["memorised.excess"]["low"] < 0 < figures["memorised.excess"]["high"]
    assert figures["overfit.rise"]["value"] == 0.0
    assert figures["leakage.test"]["value"] == pytest.approx(3 / 40)
    assert figures["drift.mean_kl"]["low"] < figures["drift.mean_kl"]["value"] < figures["drift.mean_kl"]["high"]
    assert len(list(files.read_jsonl(found.file("known.jsonl")))) == 24
    assert not (made.folder / "probe.scratch" / "base.f32").exists()


def test_gates_and_the_verdict_read_it(made: MadeRun) -> None:
    made.probe(rows=12)
    verdict = made.gate(
        "drift.mean_kl <= 1.5", "memorised.excess <= 0.5", "leakage.test <= 1%", "task.exact_match >= 0.9"
    )
    read = files.read_json(verdict.file("verdict.json"))
    assert [check["status"] for check in read["checks"]] == ["passed", "passed", "failed", "passed"]
    assert read["checks"][2]["detail"] == "leakage.test is 0.075 (n 40); asked for <= 0.01"
    assert any("nats per token from the base" in note for note in read["notes"])
    assert "3 of 40 test rows are training rows too" in read["notes"]
    assert verdict.facts["notes"] == read["notes"]


def test_without_a_probe_its_gates_fail_and_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = MadeRun(tmp_path, monkeypatch)
    run.evaluate(FakeRuntime(), FakeRuntime())
    read = files.read_json(run.gate("drift.mean_kl <= 1").file("verdict.json"))
    assert "could not be measured" in read["checks"][0]["detail"]
    assert not read["passed"]
    assert "notes" not in read


def test_times_are_judged_and_kept_apart(made: MadeRun) -> None:
    verdict = made.gate("p50_latency <= 10s", "tokens_per_second >= 1")
    assert verdict.passed
    assert verdict.volatile == ("timing.json",)
    kept, timed = (files.read_json(verdict.file(name))["checks"] for name in ("verdict.json", "timing.json"))
    assert [check["value"] for check in kept] == [None, None]
    assert all(check["value"] is not None for check in timed)
    assert {check["status"] for check in kept} == {"passed"}
    assert "p50_latency" in str(verdict.measurements["timing"])


def test_drift_is_the_kl_of_the_definition(tmp_path: Path) -> None:
    base, tuned = FakeRuntime(), FakeRuntime(noise=0.3)
    found = drift.measure(drift.read(base, tmp_path / "base.f32"), tuned)
    kl = []
    for case in drift.texts():
        ids = encode(base, case).ids
        p, q = (torch.log_softmax(torch.from_numpy(model.logits(ids)).double(), -1)[:-1] for model in (base, tuned))
        kl.append((p.exp() * (p - q)).sum(-1).numpy())
    assert found["all"]["mean_kl"] == pytest.approx(np.concatenate(kl).mean(), abs=1e-8)
    assert sorted(found["kinds"]) == ["advice", "code", "explaining", "languages", "prose", "talk"]
    assert sum(part["positions"] for part in found["kinds"].values()) == found["all"]["positions"]
    assert drift.measure(drift.read(base, tmp_path / "base.f32"), base)["all"]["max_kl"] == 0.0
    few = drift.read(base, tmp_path / "base.f32", nbytes=2_000_000)
    assert few is not None
    assert 0 < len(few[1]) < len(kl)


def test_known_by_heart_is_told_from_learnt() -> None:
    """A model that answers exactly the rows it was trained on."""
    rows = [Case(str(row["id"]), tuple(row["messages"][:-1]), row["messages"][-1]["content"]) for row in task_rows(40)]
    known = {case.messages[0]["content"]: case.expected for case in rows[:20]}
    runtime = FakeRuntime(known)
    found = memorised.figures(
        memorised.ask(runtime, rows[:20], "train"), memorised.ask(runtime, rows[20:], "validation")
    )
    assert (found["memorised.train"].value, found["memorised.validation"].value) == (1.0, 0.0)
    assert found["memorised.excess"].low is not None
    assert found["memorised.excess"].low > 0.6
    assert found["overfit.gap"].n == 20
    assert memorised.figures(
        memorised.ask(runtime, rows[:2], "train"), memorised.ask(runtime, [], "validation")
    ).keys() == {"memorised.train"}


@pytest.mark.parametrize(
    ("answer", "stopped", "same"),
    [("ab c", True, True), (" ab c\n", True, True), ("ab", True, False), ("ab", False, True), ("", False, False)],
)
def test_what_counts_as_the_same(answer: str, stopped: bool, same: bool) -> None:
    assert memorised.is_same("ab c", answer, stopped) is same


def test_notes_are_sentences() -> None:
    entry = {"value": 0.25, "n": 8, "low": 0.1, "high": 0.5}
    (note,) = notes_in({"memorised.train": entry})
    assert note == "25% of 8 training rows are completed word for word"
    assert notes_in({"overfit.rise": {**entry, "value": 0.0}}) == []
