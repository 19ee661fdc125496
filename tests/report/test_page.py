"""The page of made runs: what it says first, what it shows, that hostile text stays text, that it needs no network."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgeft import files
from edgeft.artifact import Artifact
from edgeft.report import cards, facts, glance, terminal, words
from tests.evals.fakes import FakeRuntime, conversation
from tests.stages.made_run import MadeRun, answers, task_rows

HOSTILE = '</style></script><script>alert(1)</script><img src=x onerror="alert(2)">{{ 7*7 }}\u202e\x1b[31m'


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    with pytest.MonkeyPatch.context() as patch:
        made = MadeRun(tmp_path_factory.mktemp("passed"), patch)
        trained = FakeRuntime(answers(1.0, 0.95), name="hf+adapter", skill=3)
        made.evaluate(FakeRuntime(answers(0, 1), name="hf"), trained)
        made.gate("task.exact_match >= 0.90", "general.exact_match drop <= 0.10")
        for name, noise in (("gguf-q8_0", 0.01), ("onnx-int4", 0.3)):
            made.verify(name, FakeRuntime(answers(0.95), name=name, noise=noise, skill=3), trained)
        made.report(title="household", samples=3)
    return made


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    with pytest.MonkeyPatch.context() as patch:
        made = MadeRun(tmp_path_factory.mktemp("failed"), patch)
        made.evaluate(FakeRuntime(answers(0, 1)), FakeRuntime(answers(1.0, 0.3)))
        made.gate("task.exact_match >= 0.90", "general.exact_match drop <= 0.03")
        made.report(title="ruined")
    return made


class Tags(HTMLParser):
    """All tags with their attributes, and the text outside of <style>."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def page(made: MadeRun) -> str:
    return (made.artifacts["report"].path / "report.html").read_text(encoding="utf-8")


def test_the_verdict_comes_first(passed: MadeRun, failed: MadeRun) -> None:
    text = re.sub(r"\s+", " ", Tags(page(passed)).text)
    gates = "passed 2 gates (1 of them with too few rows to be sure)"
    assert text.index(f"The tuned model {gates}, and all 2 files passed the comparison with it.") < 120
    text = re.sub(r"\s+", " ", Tags(page(failed)).text)
    assert text.index("The tuned model failed 1 of 2 gates: nothing was exported.") < 120
    assert "general.exact_match went from 1 to 0.3, a drop of 0.7" in text
    assert "None: a failed gate stops the export." in text


def test_sections(passed: MadeRun, failed: MadeRun) -> None:
    def sections(made: MadeRun) -> list[str | None]:
        return [attributes.get("id") for tag, attributes in Tags(page(made)).tags if tag == "section"]

    common = ["regressions", "curve", "data", "samples", "provenance"]
    assert sections(passed) == ["before-after", "gates", "families", "files", *common]
    assert sections(failed) == ["before-after", "gates", "families", "files", *common]


def test_links_lead_somewhere_and_ids_are_unique(passed: MadeRun) -> None:
    tags = Tags(page(passed)).tags
    ids = [value for _, attributes in tags if (value := attributes.get("id"))]
    assert len(ids) == len(set(ids))
    inner = [value for _, attributes in tags for name, value in attributes.items() if name.endswith("href") and value]
    assert {value[1:] for value in inner if value.startswith("#")} <= set(ids)


def test_headings_go_down_step_by_step_and_pictures_have_words(passed: MadeRun) -> None:
    tags = Tags(page(passed)).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    pictures = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(pictures) == 2 * 3  # curve, forgetting and trade-off, each wide and narrow
    assert all(entry["role"] == "img" and entry["aria-label"] for entry in pictures)
    assert all(attributes.get("scope") == "col" for tag, attributes in tags if tag == "th")


def test_the_figures_below_the_verdict(passed: MadeRun) -> None:
    text = re.sub(r"\s+", " ", Tags(page(passed)).text)
    first = text[: text.index("Before and after")]
    assert "task: exact match0 % → 100 %+100.0 pt" in first
    assert "files verified2 of 2smallest: gguf-q8_0, 7.0 MB, 95.0 %" in first


def test_an_undecided_gate_is_said_in_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MadeRun(tmp_path, monkeypatch)
    made.evaluate(FakeRuntime(), FakeRuntime(answers(0.95)))
    made.gate("task.exact_match >= 0.90")
    sentence = made.report().facts["sentence"]
    assert sentence == ("The tuned model passed 1 gate (1 of them with too few rows to be sure); no file was exported.")


def test_how_each_file_came_to_be(passed: MadeRun) -> None:
    chains = {chain["target"]: chain["steps"] for chain in glance.chains(facts.lineage(passed.artifacts))}
    assert list(chains) == ["export.gguf-q8_0", "export.onnx-int4"]
    steps = chains["export.gguf-q8_0"]
    assert [step["name"] for step in steps] == ["builtin:sprout", "data", "train", "export.gguf-q8_0"]
    assert steps[-1]["digest"] == passed.artifacts["export.gguf-q8_0"].digest
    assert steps[-1]["from"] == ["train", "builtin:sprout"]


def test_what_it_shows(passed: MadeRun) -> None:
    text = Tags(page(passed)).text
    for shown in (
        "gguf-q8_0",
        "onnx-int4",
        "arithmetic",
        "ordering",
        "7.0 MB",
        "make it 20 degrees",
        "lora_r",
        "builtin:sprout",
    ):
        assert shown in text
    assert passed.artifacts["train"].digest[:12] in text
    assert "tuned → onnx-int4" in text
    assert "base → tuned" in text


def test_no_network_and_no_script(passed: MadeRun) -> None:
    source = page(passed)
    tags = Tags(source).tags
    assert not {"script", "iframe", "object", "embed", "img", "form", "base"} & {tag for tag, _ in tags}
    addresses = [
        value or "" for _, attributes in tags for name, value in attributes.items() if "href" in name or name == "src"
    ]
    assert [value for value in addresses if not value.startswith("#")] == ["data:,"]
    assert not re.search(r"https?://|url\((?!#)|@import", source)
    policy = [attributes["content"] for tag, attributes in tags if "http-equiv" in attributes]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_hostile_text_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [conversation(f"{HOSTILE} {i}", HOSTILE, f"{HOSTILE}:{i}") for i in range(4)] + task_rows(10)
    made = MadeRun(tmp_path, monkeypatch, rows)
    runtime = FakeRuntime(default=HOSTILE)
    made.evaluate(runtime, FakeRuntime(answers()))
    made.gate("task.exact_match >= 0.90")
    made.report(title=HOSTILE, samples=20)
    source = page(made)
    tags = Tags(source)
    assert not {"script", "img"} & {tag for tag, _ in tags.tags}
    assert not any(name.startswith("on") for _, attributes in tags.tags for name in attributes)
    assert HOSTILE.replace("\x1b", "␛") in tags.text
    assert "\x1b" not in source
    assert source.count("<style>") == source.count("</style>") == 1
    assert "<script" not in (made.artifacts["report"].path / "report.md").read_text(encoding="utf-8")


def test_partial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MadeRun(tmp_path, monkeypatch)
    first = made.report()
    assert first.facts["sentence"] == "Nothing has been judged yet: this run is not finished."
    assert "Nothing has been judged yet" in page(made)
    assert terminal.summary({}) == "" == terminal.summary(made.artifacts)

    made = MadeRun(tmp_path / "more", monkeypatch)
    made.evaluate(FakeRuntime(), FakeRuntime(answers()))
    del made.artifacts["eval.base"], made.artifacts["data"], made.artifacts["train"]
    made.report()
    assert "The tuned model was not gated; no file was exported." in page(made)
    assert "Before and after" in page(made)


def test_a_file_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MadeRun(tmp_path, monkeypatch)
    trained = FakeRuntime(answers())
    made.evaluate(FakeRuntime(), trained)
    made.verify("gguf-f16", FakeRuntime(answers()), trained)
    made.verify("onnx-int4", FakeRuntime(answers(), refuses="no kernel for <op>"), trained)
    report = made.report()
    assert report.facts["state"] == "failed"
    assert "1 of 2 files failed verification: onnx-int4." in report.facts["sentence"]
    assert "no kernel for &lt;op&gt;" in page(made)


def test_facts_are_the_same_twice_and_hold_no_times(passed: MadeRun) -> None:
    report = passed.artifacts["report"]
    assert report.volatile == ("report.html",)
    found: dict[str, Any] = files.read_json(report.file("report.json"))
    again = facts.gather({name: made for name, made in passed.artifacts.items() if name != "report"})
    assert {name: found[name] for name in again} == again
    text = report.file("report.json").read_text()
    assert "second" not in text
    assert str(report.path.parent) not in text
    changes = {(entry["suite"], entry["metric"]): entry for entry in found["changes"]}
    task = changes["task", "exact_match"]
    assert (task["value"], task["p_value"]) == (1.0, 0.0)
    assert task["low"] < 1.0 == task["high"]
    assert set(changes) >= {("general/ordering", "exact_match"), ("general", "loss")}


def test_the_terminal_fits_80_columns(passed: MadeRun, failed: MadeRun) -> None:
    text = terminal.summary(passed.artifacts)
    assert max(map(len, text.splitlines())) <= 80
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert re.search(r"gguf-q8_0 +7\.0 MB +100 % +100 % +\d+\.\d % +\S+ +95\.0 % +[\d,]+ ok$", lines["gguf-q8_0"])
    assert "task             exact_match            0 %     100 %  +100.0 pt     40" in text
    assert text.splitlines()[-2].startswith("PASSED: The tuned model passed 2 gates")
    text = terminal.summary(failed.artifacts)
    assert max(map(len, text.splitlines())) <= 80
    assert "FAILED general.exact_match drop <= 0.03" in text
    assert "FAILED: The tuned model failed 1 of 2 gates: nothing was exported." in text


def test_a_long_name_does_not_break_the_table(passed: MadeRun) -> None:
    renamed: dict[str, Artifact] = {
        name.replace("gguf-q8_0", "gguf-a-very-long-name-of-an-export"): made for name, made in passed.artifacts.items()
    }
    assert max(map(len, terminal.summary(renamed).splitlines())) <= 80


def test_markdown(passed: MadeRun) -> None:
    text = (passed.artifacts["report"].path / "report.md").read_text(encoding="utf-8")
    assert text.startswith("## household\n\n**PASSED.** The tuned model passed 2 gates")
    assert """| task | exact\\_match | 40 | 0 % (0.0 to 8.8 %) | 100 % (91.2 to 100.0 %) | +100.0 pt (""" in text
    assert "| gguf-q8\\_0 | 7.0 MB | 100 % | 100 % |" in text
    assert "| task.exact\\_match &gt;= 0.90 | passed |" in text
    folded = text.partition("<details>\n<summary>Skill by skill</summary>\n\n")[2]
    assert "general/ordering" in folded
    assert "| tuned → onnx-int4 | test.jsonl:39 | make it 58 degrees in the cellar | " in folded
    assert text.count("<details>") == text.count("</details>") == 2


def test_cards_carry_the_figures_of_their_file(passed: MadeRun, tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    own = "---\nlicense: mit\n---\n\n# tiny \\[x\\]\n\nUse it.\n"
    folder = passed.artifacts["export.gguf-q8_0"].path
    (folder / "README.md").write_text(own)
    try:
        found = cards.complete(passed.artifacts)
    finally:
        (folder / "README.md").unlink()
    assert list(found) == ["gguf-q8_0"]
    _, front, body = found["gguf-q8_0"].split("---\n", 2)
    table = YAML(typ="safe").load(front)
    assert table["license"] == "mit"
    (entry,) = table["model-index"]
    assert entry["name"] == "tiny [x]"
    (result,) = entry["results"]
    assert result["dataset"] == {"name": "task", "type": "task"}
    assert result["metrics"][0] == {"type": "exact_match", "name": "exact_match", "value": 0.95}
    assert body.startswith("\n# tiny")
    assert "| task | exact\\_match | 95.0 % |" in body


def test_drift_is_shown_by_kind_of_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MadeRun(tmp_path, monkeypatch)
    made.evaluate(FakeRuntime(), FakeRuntime(answers(0.9), noise=0.2))
    kinds = files.read_json(made.probe().file("drift.json"))["kinds"]
    made.report()
    text = re.sub(r"\s+", " ", Tags(page(made)).text)
    assert kinds
    shown = text[text.index("Drift by kind of text") :]
    for kind, entry in kinds.items():
        assert f"{kind}{words.small(entry['mean_kl'])}{words.rate(entry['positions'])}" in shown


def test_measured_times_are_on_the_page_and_in_nothing_reproducible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = MadeRun(tmp_path, monkeypatch)
    made.evaluate(FakeRuntime(), FakeRuntime(answers(0.9)))
    gate = made.gate("p95_latency <= 900s")
    report = made.report()
    (timed,) = files.read_json(gate.file("timing.json"))["checks"]
    assert timed["detail"] in Tags(page(made)).text
    for name in ("report.json", "report.md"):
        text = report.file(name).read_text()
        assert "the measured times are in timing.json" in text.replace("\\", "")
        assert timed["detail"] not in text


def test_a_run_of_several_phases_shows_the_last_ones_curve_and_every_ones_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = MadeRun(tmp_path, monkeypatch)
    made.evaluate(FakeRuntime(), FakeRuntime(answers(0.9)))
    train = made.artifacts.pop("train")
    rest = {name: made.artifacts.pop(name) for name in ("eval.base", "eval.tuned")}
    made.artifacts |= {"train.sft": train, "train.dpo": train, **rest}
    found = files.read_json(made.report().file("report.json"))
    assert facts.trained_target(made.artifacts) == "train.dpo"
    assert found["curve"]
    assert {"train.sft", "train.dpo"} <= set(found["settings"])
    assert [entry["target"] for entry in found["lineage"]][1:3] == ["train.sft", "train.dpo"]
    text = Tags(page(made)).text
    assert "train.sft" in text
    assert "train.dpo" in text
