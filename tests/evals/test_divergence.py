"""KL and its kin against torch, and against llama.cpp's own definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeft.evals import divergence
from edgeft.evals.divergence import compare, compare_logits
from edgeft.evals.encoded import encode
from edgeft.evals.suites import Case
from tests.evals.fakes import FakeRuntime


def cases(count: int = 5) -> list[Case]:
    return [Case(f"r{i}", ({"role": "user", "content": "q" * (3 * i + 1)},), "abc" * (i + 1)) for i in range(count)]


def encoded(runtime: FakeRuntime) -> list[tuple[str, object]]:
    return [(case.id, encode(runtime, case)) for case in cases()]


def test_positions_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergence, "_CHUNK_VALUES", 64)  # many blocks per row
    draw = np.random.default_rng(2)
    first = (draw.normal(size=(40, 17)) * 8).astype(np.float32)
    second = first + draw.normal(size=(40, 17)).astype(np.float32)
    ids = [int(i) for i in draw.integers(0, 17, 40)]
    found = compare_logits(first, second, ids, 17)
    log_p, log_q = (torch.log_softmax(torch.from_numpy(x).double(), -1)[:-1] for x in (first, second))
    wanted = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    assert found.kl == pytest.approx(wanted.numpy(), abs=1e-12)
    targets = torch.tensor(ids[1:])
    assert found.reference_nll == pytest.approx(torch.nn.functional.nll_loss(log_p, targets, reduction="none").numpy())
    assert found.candidate_nll == pytest.approx(torch.nn.functional.nll_loss(log_q, targets, reduction="none").numpy())
    assert list(found.same_top) == (first[:-1].argmax(1) == second[:-1].argmax(1)).tolist()


def test_figures_over_all_positions_and_over_the_answers() -> None:
    reference, file = FakeRuntime(), FakeRuntime(noise=0.3)
    rows = encoded(reference)
    found = compare(reference, file, rows).as_json()  # type: ignore[arg-type]
    kl, answer_kl, first_nll, second_nll = [], [], [], []
    for _, item in rows:
        log_p, log_q = (
            torch.log_softmax(torch.from_numpy(runtime.logits(item.ids)).double(), -1)[:-1]  # type: ignore[attr-defined]
            for runtime in (reference, file)
        )
        row = (log_p.exp() * (log_p - log_q)).sum(-1)
        kl.append(row)
        answer_kl.append(row[item.start - 1 : item.end - 1])  # type: ignore[attr-defined]
        targets = torch.tensor(item.ids[1:])[:, None]  # type: ignore[attr-defined]
        first_nll.append(-log_p.gather(1, targets))
        second_nll.append(-log_q.gather(1, targets))
    values = torch.cat(kl)
    whole, answer = found["all"], found["answer"]
    assert whole["positions"] == len(values)
    assert answer["positions"] == sum(3 * (i + 1) + 1 for i in range(5))
    assert whole["mean_kl"] == pytest.approx(float(values.mean()), abs=1e-8)
    assert whole["max_kl"] == pytest.approx(float(values.max()), abs=1e-8)
    assert answer["mean_kl"] == pytest.approx(float(torch.cat(answer_kl).mean()), abs=1e-8)
    # llama.cpp: the element at p * (n - 1) of the sorted values, linearly between neighbours
    ordered = values.sort().values.numpy()
    place = 0.999 * (len(ordered) - 1)
    low = int(place)
    assert whole["p999_kl"] == pytest.approx(ordered[low] + (place - low) * (ordered[low + 1] - ordered[low]), abs=1e-8)
    ratio = torch.exp(torch.cat(second_nll).mean()) / torch.exp(torch.cat(first_nll).mean())
    assert whole["perplexity_ratio"] == pytest.approx(float(ratio), abs=1e-8)


def test_the_same_model_does_not_diverge() -> None:
    found = compare(FakeRuntime(), FakeRuntime(), encoded(FakeRuntime())).as_json()  # type: ignore[arg-type]
    assert found["all"]["top1_agreement"] == 1.0
    assert found["all"]["perplexity_ratio"] == 1.0
    assert abs(found["all"]["max_kl"]) < 1e-12


def test_a_padded_vocabulary_does_not_count() -> None:
    rows = encoded(FakeRuntime())
    plain = compare(FakeRuntime(), FakeRuntime(noise=0.2), rows).as_json()  # type: ignore[arg-type]
    padded = compare(FakeRuntime(), FakeRuntime(noise=0.2, vocab_size=320), rows).as_json()  # type: ignore[arg-type]
    assert plain == padded


def test_nan_is_named() -> None:
    class Broken(FakeRuntime):
        def logits(self, ids):  # type: ignore[no-untyped-def]
            found = super().logits(ids)
            if len(ids) > 40:
                found[3, 7] = np.nan
            return found

    found = compare(FakeRuntime(), Broken(), encoded(FakeRuntime())).as_json()  # type: ignore[arg-type]
    assert found["not_finite"]
    assert found["rows"]
    assert len(found["not_finite"]) + found["rows"] == 5
    assert found["all"]["mean_kl"] == pytest.approx(0.0, abs=1e-12)
