"""The graph: references, cycles, selection, order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from edgeft.errors import InputError, UsageError
from edgeft.pipeline import Graph, Target


class Nothing(BaseModel):
    pass


def make(name: str, *inputs: str, **more: object) -> Target:
    return Target(name, "stage", Nothing(), inputs={each: each for each in inputs}, **more)  # type: ignore[arg-type]


def names(found: list[Target]) -> list[str]:
    return [target.name for target in found]


def test_unknown_input_is_named_with_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"'train' needs 'dta', which does not exist\ndid you mean 'data'\?"):
        Graph([make("data"), make("train", "dta")])


def test_unknown_judge_is_an_error() -> None:
    with pytest.raises(InputError, match="'export' needs 'verify'"):
        Graph([make("export", judged_by="verify")])


def test_duplicate_names_are_an_error() -> None:
    with pytest.raises(InputError, match="two targets named 'a'"):
        Graph([make("a"), make("a")])


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".hidden", "a b"])
def test_names_that_cannot_be_files_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be a target's name"):
        Graph([make(name)])


def test_a_circle_is_named() -> None:
    with pytest.raises(InputError, match="a → c → b → a"):
        Graph([make("x"), make("a", "c"), make("b", "a"), make("c", "b")])


def test_after_counts_for_circles_and_order() -> None:
    with pytest.raises(InputError, match="circle"):
        Graph([make("a", after=("b",)), make("b", "a")])
    assert names(Graph([make("b", after=("a",)), make("a")]).order()) == ["a", "b"]


def test_order_is_the_recipes_where_there_is_a_choice() -> None:
    graph = Graph([make("z"), make("report", "z", lenient=True), make("c", "a"), make("b"), make("a")])
    assert names(graph.order()) == ["z", "b", "a", "c", "report"]


@pytest.fixture
def exports() -> Graph:
    return Graph(
        [
            make("data"),
            make("train", "data"),
            make("gate", "train"),
            make("export.a", "train", after=("gate",), judged_by="verify.a"),
            make("verify.a", "export.a"),
            make("export.b", "train", after=("gate",), judged_by="verify.b"),
            make("verify.b", "export.b"),
            make("use", "export.a"),
            make("bench", "train", default=False),
        ]
    )


def test_a_name_brings_needs_and_judges(exports: Graph) -> None:
    assert exports.select(["export.a"]) == {"data", "train", "gate", "export.a", "verify.a"}


def test_patterns_and_groups(exports: Graph) -> None:
    both = {"data", "train", "gate", "export.a", "verify.a", "export.b", "verify.b"}
    assert exports.select(["export.*"]) == both
    assert exports.select(["export"]) == both
    assert exports.select(["data", "*.b"]) == both - {"export.a", "verify.a"}


def test_no_name_means_the_defaults(exports: Graph) -> None:
    assert exports.select() == set(exports.targets) - {"bench"}
    assert "bench" in exports.select(["bench"])


def test_a_name_that_matches_nothing(exports: Graph) -> None:
    with pytest.raises(UsageError, match=r"no target 'trian'\ndid you mean 'train'\?"):
        exports.select(["trian"])


def test_who_reads_a_judged_target_waits_for_the_judge(exports: Graph) -> None:
    assert set(exports.needs("use")) == {"export.a", "verify.a"}
    assert exports.needs("verify.a") == ("export.a",)


def test_a_reader_that_the_judge_needs_does_not_wait_for_it() -> None:
    graph = Graph([make("export", judged_by="verify"), make("eval", "export"), make("verify", "eval", "export")])
    assert graph.needs("eval") == ("export",)
    assert names(graph.order()) == ["export", "eval", "verify"]


@st.composite
def graphs(draw: st.DrawFn) -> list[Target]:
    """Random acyclic targets, in a random recipe order, with `after`, judges and lenient ones."""
    count = draw(st.integers(1, 12))
    made = []
    for number in range(count):
        earlier = [f"t{other}" for other in range(number)]
        some = st.lists(st.sampled_from(earlier), unique=True, max_size=3) if earlier else st.just([])
        made.append((f"t{number}", draw(some), tuple(draw(some)), draw(st.booleans())))
    judges = {}
    for name, inputs, _, _ in made:
        for given_name in inputs[:1]:
            if draw(st.booleans()):
                judges[given_name] = name
    found = [make(n, *i, after=a, lenient=lenient, judged_by=judges.get(n)) for n, i, a, lenient in made]
    return draw(st.permutations(found))


@settings(max_examples=150, deadline=None)
@given(graphs(), st.data())
def test_order_and_selection_hold_for_any_graph(found: list[Target], data: st.DataObject) -> None:
    graph = Graph(found)
    order = names(graph.order())
    assert sorted(order) == sorted(target.name for target in found)
    place = {name: number for number, name in enumerate(order)}
    for target in found:
        for need in {*target.inputs.values(), *target.after, *graph.needs(target.name)}:
            assert place[need] < place[target.name]
    wanted = data.draw(st.lists(st.sampled_from(order), min_size=1, unique=True))
    chosen = graph.select(wanted)
    assert set(wanted) <= chosen
    for name in chosen:  # closed …
        assert set(graph.needs(name)) <= chosen
        assert graph[name].judged_by is None or graph[name].judged_by in chosen
    reached = set(wanted)  # … and nothing beside
    while True:
        more = {need for name in reached for need in graph.needs(name)}
        more |= {judge for name in reached if (judge := graph[name].judged_by) is not None}
        if more <= reached:
            break
        reached |= more
    assert chosen == reached
    assert names(graph.order(chosen)) == [name for name in order if name in chosen]


@settings(max_examples=60, deadline=None)
@given(graphs(), st.data())
def test_any_edge_back_is_a_circle(found: list[Target], data: st.DataObject) -> None:
    graph = Graph(found)
    pairs = [(a, b) for a in graph.targets for b in graph.dependents(a)]
    if not pairs:
        return
    start, end = data.draw(st.sampled_from(pairs))
    broken = [
        make(t.name, *t.inputs.values(), after=(*t.after, *([end] if t.name == start else [])), lenient=t.lenient)
        for t in found
    ]
    judged = any(target.judged_by for target in found)
    if judged and end not in Graph([make(t.name, *t.inputs.values(), after=t.after) for t in found]).dependents(start):
        return  # that dependency came from a judge, which the rebuilt targets do not have
    with pytest.raises(InputError, match="circle"):
        Graph(broken)
