"""lm-eval's own figures of a model against ours of the same, through the same tasks: local task files, local rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import InputError
from edgeft.evals import harness, suites
from edgeft.evals.evaluate import evaluate
from edgeft.runtimes.hf import open_hf

pytest.importorskip("lm_eval")

ROWS: dict[str, list[dict[str, Any]]] = {
    "choose": [
        {
            "q": f"What is {a} plus {b}?",
            "choices": [str(a + b), str(a + b + 3), "a lamp", "light in the kitchen"],
            "gold": 0,
        }
        for a, b in ((3, 4), (1, 2), (5, 5), (2, 7), (8, 1), (6, 3))
    ],
    "read": [
        {"text": "Turn the kitchen light on. " * count + "Set the heating to 21 degrees."} for count in (1, 4, 30, 120)
    ],
    "write": [{"q": f"Set the heating to {n} degrees", "a": f"{n} degrees"} for n in range(18, 24)],
}
TASKS = {
    "choose": """\
output_type: multiple_choice
doc_to_text: "{{q}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: gold
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "read": """\
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
""",
    "write": """\
output_type: generate_until
doc_to_text: "{{q}}. Answer:"
doc_to_target: "{{a}}"
generation_kwargs: {until: ["\\n", "e"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match}]
""",
}


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    for name, rows in ROWS.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        head = f"task: edgeft_{name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n"
        (folder / f"{name}.yaml").write_text(head + "test_split: test\n" + TASKS[name])
    return folder


def suite(name: str, tasks: Path, **asking: Any) -> suites.Suite:
    settings = {"include_path": str(tasks)}
    return suites.Suite(
        name, (), (), task=f"edgeft_{name}", asking=suites.Asking(chat=False, **asking), settings=settings
    )


@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize("name", list(TASKS))
def test_figures_are_those_of_lm_evals_own_model(
    name: str, shots: int, tasks: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    if name == "read" and shots:
        pytest.skip("texts have no examples")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda _: None)
    theirs = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tiny_llama), "dtype": "float32"},
        tasks=[f"edgeft_{name}"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        num_fewshot=shots or None,
        fewshot_random_seed=0,
        batch_size=4,
        device="cpu",
        bootstrap_iters=0,
    )
    with open_hf(tiny_llama) as runtime:
        ours = evaluate(runtime, [suite(name, tasks, few_shot=shots)])
    wanted = {
        key.partition(",")[0]: value
        for key, value in theirs["results"][f"edgeft_{name}"].items()
        if isinstance(value, float) and "stderr" not in key
    }
    assert wanted
    for metric, value in wanted.items():
        found = ours.summary[name][metric]["value"]
        assert f"{found:.4f}" == f"{value:.4f}", metric
    for row, sample in zip(ours.rows, theirs["samples"][f"edgeft_{name}"], strict=True):
        if name == "write":
            assert row["answer"] == sample["filtered_resps"][0]
        elif name == "read":
            assert -row["loss"] == pytest.approx(sample["filtered_resps"][0], rel=1e-5)
        else:
            told = [choice["logprob"] for choice in row["choices"]]
            assert told == pytest.approx([response[0] for response in sample["filtered_resps"]], abs=1e-4)


@pytest.mark.slow  # the harness reads all its own task files
def test_an_unknown_task_is_named(tasks: Path, tiny_llama: Path) -> None:
    lost = suites.Suite("x", (), (), task="edgeft_nothing", settings={"include_path": str(tasks)})
    with open_hf(tiny_llama) as runtime, pytest.raises(InputError, match="the harness cannot run 'edgeft_nothing'"):
        evaluate(runtime, [lost])
    assert harness.PREFIX == "lm-eval:"
