"""lm-eval's tasks asked of every runtime, through the chat template and without: the same prompts, the same scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeft.evals import suites
from edgeft.evals.evaluate import Evaluation, evaluate
from edgeft.runtimes.hf import open_hf
from tests.evals.test_harness import tasks as tasks

pytest.importorskip("lm_eval")


def asked(runtime: Any, name: str, tasks: Path, **asking: Any) -> Evaluation:
    settings = {"include_path": str(tasks)}
    suite = suites.Suite(name, (), (), task=f"edgeft_{name}", asking=suites.Asking(**asking), settings=settings)
    return evaluate(runtime, [suite])


@pytest.mark.slow  # an export to ONNX, and each task in each form
@pytest.mark.parametrize("name", ["choose", "read", "write"])
@pytest.mark.parametrize("chat", [False, True])
def test_every_runtime_is_asked_the_same(
    runtime: Any, opened: dict[str, Any], tasks: Path, name: str, chat: bool
) -> None:
    shots = 0 if name == "read" else 1
    wanted = asked(opened["hf"], name, tasks, chat=chat, few_shot=shots)
    found = asked(runtime, name, tasks, chat=chat, few_shot=shots)
    assert [row["rendered"] for row in found.rows] == [row["rendered"] for row in wanted.rows]
    for one, other in zip(found.rows, wanted.rows, strict=True):
        if name == "write":  # llama.cpp also stops at an end of text, which a random model writes by chance
            # and onnxruntime-genai's tokenizer ends a text at its first broken character
            assert one["answer"]
            assert other["answer"].startswith(one["answer"].rstrip("\ufffd"))
        else:
            assert one["answer"] == other["answer"]
        if name == "read":
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        for choice, same in zip(one["choices"], other["choices"], strict=True):
            assert choice["logprob"] == pytest.approx(same["logprob"], abs=2e-2)
    for metric, figure in wanted.summary[name].items():
        assert found.summary[name][metric]["value"] == pytest.approx(figure["value"], rel=1e-3), metric


@pytest.mark.parametrize("multiturn", [True, False])
def test_chats_are_rendered_as_lm_eval_renders_them(
    tiny_llama: Path, tasks: Path, multiturn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda _: None)
    theirs = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tiny_llama), "dtype": "float32"},
        tasks=["edgeft_choose"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        num_fewshot=2,
        fewshot_random_seed=3,
        system_instruction="Be brief.",
        apply_chat_template=True,
        fewshot_as_multiturn=multiturn,
        batch_size=4,
        device="cpu",
        bootstrap_iters=0,
    )
    asking = {"few_shot": 2, "seed": 3, "system": "Be brief.", "multiturn": multiturn}
    with open_hf(tiny_llama) as runtime:
        ours = asked(runtime, "choose", tasks, chat=True, **asking)
    for row, sample in zip(ours.rows, theirs["samples"]["edgeft_choose"], strict=True):
        assert row["rendered"] == sample["arguments"][0][0]
        told = [choice["logprob"] for choice in row["choices"]]
        assert told == pytest.approx([response[0] for response in sample["filtered_resps"]], abs=1e-4)
    assert ours.rows[0]["rendered"].count("<|im_start|>user") == (3 if multiturn else 1)
    for metric in ("acc", "acc_norm"):
        value = theirs["results"]["edgeft_choose"][f"{metric},none"]
        assert f"{ours.summary['choose'][metric]['value']:.4f}" == f"{value:.4f}"
