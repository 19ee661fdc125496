"""Deliberately broken files are caught, each by the check that names its cause."""

from __future__ import annotations

from typing import Any

import pytest

from edgeft.errors import ModelError
from edgeft.evals.awkward import STRINGS
from edgeft.evals.estimate import Estimate
from edgeft.evals.fidelity import FIDELITY, compare_answers, examine, figures
from edgeft.evals.requirements import requirements
from edgeft.evals.suites import Case
from tests.evals.fakes import END, FakeRuntime, byte_ids, chatml

CASES = [
    Case(f"r{i}", ({"role": "system", "content": "Short."}, {"role": "user", "content": f"number {i}"}), f"it is {i}")
    for i in range(8)
]


def failed(
    file: FakeRuntime, reference: FakeRuntime | None = None, answers: Any = None, type_name: str = "q4_k_m"
) -> dict[str, str]:
    """Names and details of the requirements that a file does not meet."""
    found = examine(reference or FakeRuntime(), file, CASES, logit_rows=4)
    found["answers"] = answers or {"n": 0}
    return {check.gate: check.detail for check in requirements(found, type_name) if not check.passed}


def test_a_faithful_file_passes_everything() -> None:
    assert failed(FakeRuntime(name="file", noise=0.05)) == {}
    found = examine(FakeRuntime(), FakeRuntime(noise=0.05), CASES, logit_rows=4)
    conversations = 16 + 2 * (len(STRINGS) + 1)
    assert found["rendering"] == {
        "n": conversations,
        "equal": conversations,
        "share": 1.0,
        "kinds": {},
        "differences": [],
    }
    assert found["logits"]["rows"] == 4
    assert set(figures(found)) == set(FIDELITY) - {"same_answers", "common_prefix", "furthest_probability"}, (
        "no suite was answered, no classifier asked"
    )
    assert figures(found)["token_ids_equal"] == Estimate(1.0, 16, 1.0, 1.0)
    assert figures(found)["mean_kl"].n == found["logits"]["all"]["positions"]


def test_a_wrong_template_is_not_taken_for_a_wrong_tokenizer() -> None:
    def without_system(messages: Any, prompt: bool) -> str:
        return chatml([message for message in messages if message["role"] != "system"], prompt)

    found = failed(FakeRuntime(render=without_system))
    assert list(found) == ["rendering equal"]
    assert (
        "the chat template in the file is not the one trained with; first: r0, from place 12"
        in found["rendering equal"]
    )


def test_a_truncated_template_is_caught() -> None:
    found = failed(FakeRuntime(render=lambda messages, prompt: chatml(messages, False)))
    assert list(found) == ["rendering equal"]


def test_a_tokenizer_that_splits_digits_otherwise() -> None:
    def grouped(text: str) -> list[int]:
        return byte_ids(text.replace("123", "\x7f"))

    found = failed(FakeRuntime(encode=grouped))
    assert list(found) == ["token ids equal on awkward strings"]
    assert "splits text in another way; first: digits" in found["token ids equal on awkward strings"]


def test_a_tokenizer_that_squeezes_spaces_is_caught_on_the_rows() -> None:
    found = failed(FakeRuntime(encode=lambda text: byte_ids(text.replace("it is", "it_is"))))
    assert "8 of 16 are equal" in found["token ids equal"]


@pytest.mark.parametrize(
    ("dropped", "told"), [(True, "drops the first token (BOS)"), (False, "adds a token at the start")]
)
def test_bos(dropped: bool, told: str) -> None:
    with_bos = FakeRuntime(encode=lambda text: [1, *byte_ids(text)])
    reference, file = (with_bos, FakeRuntime()) if dropped else (FakeRuntime(), with_bos)
    assert told in failed(file, reference)["token ids equal"]


def test_special_tokens_not_parsed() -> None:
    found = failed(FakeRuntime(encode=lambda text: list(text.encode())))
    assert {"token ids equal", "token ids equal on awkward strings"} <= set(found)


def test_a_missing_stop_token() -> None:
    found = failed(FakeRuntime(stop_ids=(3,)))
    assert found == {"stop tokens equal": f"trained with [{END}]; the file lacks [{END}]; the file also stops at [3]"}


def test_a_further_stop_token_only_matters_inside_answers() -> None:
    assert failed(FakeRuntime(stop_ids=(END, 3))) == {}
    space = ord(" ")
    found = failed(FakeRuntime(stop_ids=(END, space)))
    assert found["stop tokens equal"].endswith(f"answers hold [{space}]")


def test_perturbed_logits_are_another_model() -> None:
    found = failed(FakeRuntime(noise=3.0))
    assert list(found) == ["the same model"]
    assert "is not what fewer bits costs" in found["the same model"]


@pytest.mark.parametrize(
    ("type_name", "noise", "passes"),
    [("f16", 0.05, True), ("f16", 0.3, False), ("q8_0", 0.3, True), ("int8", 0.5, False), ("q4_k_m", 0.5, True)],
)
def test_how_near_the_logits_must_be_depends_on_the_type(type_name: str, noise: float, passes: bool) -> None:
    """The fake's mean KL is 0.0012, 0.042 and 0.12 nats at noise 0.05, 0.3 and 0.5."""
    assert ("the same model" not in failed(FakeRuntime(noise=noise), type_name=type_name)) is passes


def test_a_tokenizer_that_refuses_is_a_difference() -> None:
    def refuse(text: str) -> list[int]:
        if "\x1b" in text:
            raise ModelError("has no byte tokens")
        return byte_ids(text)

    found = failed(FakeRuntime(encode=refuse))
    assert "the tokenizer in the file refused: has no byte tokens" in found["token ids equal on awkward strings"]


def test_normal_forms_are_told_but_do_not_stop_a_file() -> None:
    import unicodedata

    file = FakeRuntime(encode=lambda text: byte_ids(unicodedata.normalize("NFC", text)))
    reference = FakeRuntime()
    kept = list(CASES)
    found = examine(reference, file, kept, logit_rows=2)
    assert found["awkward"]["not_required"]["equal"] < found["awkward"]["not_required"]["n"]
    assert found["awkward"]["not_required"]["differences"][0]["id"] == "decomposed accents"


def row(identity: str, answer: str, stopped: bool = True) -> dict[str, Any]:
    return {"suite": "task", "id": identity, "answer": answer, "stopped": stopped}


def test_answers_are_compared_with_the_trained_models() -> None:
    trained = [row(str(i), "turn on") for i in range(4)]
    found = compare_answers(trained, [row("0", "turn on"), row("1", "turn off"), row("2", ""), row("9", "x")])
    assert (found["n"], found["same"]) == (3, 1)
    assert found["mean_common_prefix"] == pytest.approx((1 + 6 / 8 + 0) / 3, abs=1e-6)
    assert compare_answers([], [row("0", "x")]) == {"n": 0}
    chosen = {key: value for key, value in row("5", "x").items() if key != "stopped"} | {"kind": "pairs"}
    assert compare_answers([*trained, chosen], [chosen]) == {"n": 0}  # nothing was written


def test_a_file_that_does_not_stop() -> None:
    trained = [row(str(i), "x") for i in range(60)]
    rambling = [row(str(i), "x", stopped=i % 3 > 0) for i in range(60)]
    found = failed(FakeRuntime(), answers=compare_answers(trained, rambling))
    assert found == {
        "stops where the trained model stops": "40 of 60 answers end with a stop token, the trained model's: 60"
    }
    one = [row(str(i), "x", stopped=i > 0) for i in range(60)]
    assert failed(FakeRuntime(), answers=compare_answers(trained, one)) == {}


def test_the_models_own_markers_inside_content_are_compared() -> None:
    """A file whose tokenizer takes special tokens for text where they follow text, as some runtimes do."""

    def plain_behind_text(text: str) -> list[int]:
        head, found, rest = text.partition("see: ")
        return [*byte_ids(head), *found.encode(), *rest.encode()] if found else byte_ids(text)

    found = failed(FakeRuntime(encode=plain_behind_text))
    assert "first: the model's own markers" in found["token ids equal on awkward strings"]
