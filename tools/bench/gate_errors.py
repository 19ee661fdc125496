"""How often gates are wrong: simulated evaluations whose true drop is known, judged by the gates as they are.

    python tools/bench/gate_errors.py [--runs 200] [--rows 100,200,400,800] [--seed 1] [--processes 2]

Three kinds of gates: the drop of a share of right answers (paired 0/1 scores, Tango's interval), the drop of a mean of
scores near 1 (bootstrap of rows), the rise of the loss in percent (nats per token, rows with their tokens); and a
verdict of six gates at once (Holm).

A model within the limit that is stopped is a false alarm, one beyond it that ships a miss; what becomes of undecided
gates decides both, so each policy of `gate.undecided` has its column, the recipe's default first. "at the limit" the
true drop is the limit itself, the hardest case; "none" is no true drop.

The power computation is checked as well: the rows that it asks for are drawn, and the share of evaluations of that size
that decide is printed (0.8 is meant).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent]

from edgeft.evals.gates import UNDECIDED, settle  # noqa: E402
from edgeft.evals.measured import Measured, measure  # noqa: E402
from edgeft.evals.statistics import proportion as proportion_of  # noqa: E402
from edgeft.recipe.gates import parse  # noqa: E402

LIMIT = 0.03
METRICS = {"task": ("exact_match", "f1", "loss")}
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """A gate, and how rows before and after tuning with a true drop (or rise) are drawn."""

    name: str
    line: str
    draw: Callable[[Any, int, float], tuple[Rows, Rows]]
    limit: float = LIMIT


def rows(metric: str, scores: Sequence[float], nats: Sequence[float] = (), tokens: Sequence[int] = ()) -> Rows:
    return [
        {
            "suite": "task",
            "id": str(i),
            "group": "",
            "expected": "x",
            "scores": {metric: float(score)},
            "loss": float(nats[i]) if len(nats) else 1.0,
            "tokens": int(tokens[i]) if len(tokens) else 1,
        }
        for i, score in enumerate(scores)
    ]


def proportion(draw: Any, n: int, drop: float) -> tuple[Rows, Rows]:
    """Right before with probability 0.8; 4 of 100 rows are won, as many and the drop more are lost."""
    won, lost = 0.04, 0.04 + drop
    kinds = draw.choice(4, size=n, p=[won, lost, 0.8 - lost, 0.2 - won])
    return rows("exact_match", (kinds == 1) | (kinds == 2)), rows("exact_match", (kinds == 0) | (kinds == 2))


def mean(draw: Any, n: int, drop: float) -> tuple[Rows, Rows]:
    """Skewed scores between 0 and 1 of mean 0.8; tuning moves each by a tenth or so, down by `drop` on average. The
    change is a two-point one that keeps scores in range, so that the true drop is exact."""
    before = 0.2 + 0.8 * draw.beta(3.0, 1.0, n)
    away = draw.random(n) < 0.25  # a quarter of the rows changes: by 4 * drop on average, spread by a factor
    after = before - away * drop * 4 * draw.gamma(2.0, 0.5, n) + away * 0.08 * draw.normal(size=n)
    return rows("f1", before), rows("f1", after)


def loss(draw: Any, n: int, rise: float) -> tuple[Rows, Rows]:
    """Nats per token near 1.2 that differ by row, answers of very different length, a rise that differs by row."""
    import numpy as np

    tokens = 3 + draw.geometric(1 / 20, n)
    level = draw.gamma(4.0, 0.3, n)
    before = level * tokens * draw.gamma(tokens, 1.0 / tokens)
    expected = level * tokens  # what the rise is a share of, so that the true relative rise is exact
    after = before + expected * (rise + 0.1 * draw.normal(size=n) / np.sqrt(tokens))
    zeros = [0.0] * n
    return rows("exact_match", zeros, before, tokens), rows("exact_match", zeros, after, tokens)


KINDS = (
    Kind("share, drop <= 0.03", "task.exact_match drop <= 0.03", proportion),
    Kind("mean, drop <= 0.03", "task.f1 drop <= 0.03", mean),
    Kind("loss, rise <= 3%", "task.loss rise <= 3%", loss),
)
POLICIES = (UNDECIDED, *(policy for policy in ("pass", "estimate", "fail") if policy != UNDECIDED))
POWERS = (0.4, 0.8, 0.9)  # true drops, as shares of the limit, at which the power computation is checked
TRUE = (("none", 0.0), ("half the limit", 0.5), ("at the limit", 1.0), ("twice the limit", 2.0), ("3 times", 3.0))
GATES = 6


def measured(kind: Kind, draw: Any, n: int, drop: float) -> Measured:
    before, after = kind.draw(draw, n, drop)
    return measure(parse(kind.line, METRICS, []), after, before)


def rates(kind: Kind, n: int, drop: float, runs: int, seed: int) -> Counter[str]:
    """How many of `runs` evaluations of `n` rows end in each status, and how many each policy stops ("stop-POLICY")."""
    import numpy as np

    draw = np.random.default_rng([seed, n, round(1e6 * drop), *kind.name.encode()])
    found: Counter[str] = Counter()
    for _ in range(runs):
        item = measured(kind, draw, n, drop)
        for policy in POLICIES:
            (check,) = settle([item], undecided=policy)
            found[f"stop-{policy}"] += not check.passed
        found[check.status] += 1
    return found


def together(n: int, worst: float, runs: int, seed: int) -> Counter[str]:
    """Verdicts of six gates of the first kind, each on rows of its own, all at their limit but one, whose true drop is
    `worst` times the limit: how many fail with and without Holm's correction, how many each policy stops."""
    import numpy as np

    draw = np.random.default_rng([seed, n, GATES, round(1e6 * worst)])
    found: Counter[str] = Counter()
    for _ in range(runs):
        items = [measured(KINDS[0], draw, n, LIMIT * (worst if gate == 0 else 1)) for gate in range(GATES)]
        found["alone"] += any(settle([item])[0].status == "failed" for item in items)
        for policy in POLICIES:
            checks = settle(items, undecided=policy)
            found[f"stop-{policy}"] += any(not check.passed for check in checks)
        found["failed"] += any(check.status == "failed" for check in checks)
    return found


def powers(kind: Kind, share: float, runs: int, seed: int) -> tuple[int, float]:
    """(rows that the power computation asks for at a true drop of that share of the limit, how many evaluations of that
    size pass). It is asked of 20,000 rows, whose estimate and variance are the true ones."""
    import numpy as np

    drop = share * kind.limit
    draw = np.random.default_rng([seed, *kind.name.encode()])
    needed = measured(kind, draw, 20_000, drop).needed
    assert needed is not None
    decided = [settle([measured(kind, draw, needed, drop)])[0].status == "passed" for _ in range(runs)]
    return needed, sum(decided) / runs


def wrong(found: Counter[str], runs: int, *, within: bool) -> str:
    """The share of wrong decisions of each policy."""
    shares = (found[f"stop-{policy}"] / runs for policy in POLICIES)
    return " ".join(f"{share if within else 1 - share:9.1%}" for share in shares)


def head(first: str, columns: Sequence[str]) -> str:
    by = " ".join(f"{policy:>9}" for policy in POLICIES)
    return f"{first} {'n':>6} {' '.join(f'{column:>9}' for column in columns)}  {'wrong':12} {by}"


def table(sizes: Sequence[int], runs: int, seed: int, pool: ProcessPoolExecutor) -> Iterator[str]:
    yield head(f"{'gate':20} {'true drop':16}", ("passed", "failed", "undecided"))
    asked = [(kind, name, share, n) for kind in KINDS for name, share in TRUE for n in sizes]
    work = [pool.submit(rates, kind, n, share * kind.limit, runs, seed) for kind, _, share, n in asked]
    alarms, judged = 0, 0
    for (kind, name, share, n), done in zip(asked, work, strict=True):
        found = done.result()
        parts = " ".join(f"{found[key] / runs:9.1%}" for key in ("passed", "failed", "undecided"))
        what = "false alarms" if share <= 1 else "misses"
        yield f"{kind.name:20} {name:16} {n:6} {parts}  {what:12} {wrong(found, runs, within=share <= 1)}"
        if share == 1:
            alarms, judged = alarms + found[f"stop-{UNDECIDED}"], judged + runs
    rate = proportion_of(alarms, judged)
    yield (
        f"\nfalse alarms by default (undecided: {UNDECIDED}) at the limit, all kinds and sizes: {alarms} of {judged}, "
        f"{rate.value:.1%} (95 % interval {rate.low:.1%} to {rate.high:.1%}); of one line's {runs} runs chance alone "
        f"moves the share by {1.96 * (rate.value * (1 - rate.value) / runs) ** 0.5:.1%}"
    )


def of_six(sizes: Sequence[int], runs: int, seed: int, pool: ProcessPoolExecutor) -> Iterator[str]:
    yield f"\n{GATES} gates of the first kind at once, all at their limit, and with one of them beyond it:"
    yield head(f"{'one of them':20}", ("alone", "Holm"))
    asked = [(name, share, n) for name, share in TRUE[2:] for n in sizes]
    work = [pool.submit(together, n, share, runs, seed) for _, share, n in asked]
    for (name, share, n), done in zip(asked, work, strict=True):
        found = done.result()
        parts = " ".join(f"{found[key] / runs:9.1%}" for key in ("alone", "failed"))
        what = "false alarms" if share <= 1 else "misses"
        yield f"{name:20} {n:6} {parts}  {what:12} {wrong(found, runs, within=share <= 1)}"


def of_power(runs: int, seed: int, pool: ProcessPoolExecutor) -> Iterator[str]:
    yield "\nrows that the power computation asks for, and how many evaluations of that size pass:"
    work = [pool.submit(partial(powers, kind, share, runs, seed)) for kind, share in zip(KINDS, POWERS, strict=True)]
    for kind, share, done in zip(KINDS, POWERS, work, strict=True):
        needed, passed = done.result()
        yield f"{kind.name:20} true drop {share:g} of the limit: {needed:6} rows, {passed:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rows", default="100,200,400,800")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    sizes = [int(n) for n in given.rows.split(",")]
    with ProcessPoolExecutor(given.processes) as pool:
        for lines in (
            table(sizes, given.runs, given.seed, pool),
            of_six(sizes, given.runs, given.seed, pool),
            of_power(given.runs, given.seed, pool),
        ):
            for line in lines:
                print(line, flush=True)


if __name__ == "__main__":
    main()
