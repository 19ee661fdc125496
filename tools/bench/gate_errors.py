"""How often gates are wrong: simulated evaluations whose true drop is known, judged by the gates as they are.

    python tools/bench/gate_errors.py [--runs 400] [--rows 100,200,400,800] [--seed 1]

Four kinds of gates: the drop of a share of right answers (paired 0/1 scores, Tango's interval), the drop of a mean of
scores near 1 (bootstrap of rows), the rise of the loss in percent (nats per token, rows with their tokens), and a
verdict of six gates at once (Holm). A false alarm is a model within the limit that fails; a miss is one beyond it that
passes. "at the limit" the true drop is the limit itself, the hardest case; "none" is no true drop. "estimate fails" is
how often the recipe's default for undecided gates, going by the estimate, would stop the model too.

The power computation is checked as well: the rows that it asks for are drawn, and the share of evaluations of that size
that decide is printed (0.8 is meant).
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent]

from edgeft.evals.gates import Measured, measure, settle  # noqa: E402
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
POWERS = (0.4, 0.8, 0.9)  # true drops, as shares of the limit, at which the power computation is checked
TRUE = (("none", 0.0), ("half the limit", 0.5), ("at the limit", 1.0), ("twice the limit", 2.0), ("3 times", 3.0))


def measured(kind: Kind, draw: Any, n: int, drop: float) -> Measured:
    before, after = kind.draw(draw, n, drop)
    return measure(parse(kind.line, METRICS, []), after, before)


def rates(kind: Kind, n: int, drop: float, runs: int, seed: int) -> Counter[str]:
    """How many of `runs` evaluations of `n` rows end in each status, and how many the estimate alone would fail."""
    import numpy as np

    draw = np.random.default_rng([seed, n, round(1e6 * drop), *kind.name.encode()])
    found: Counter[str] = Counter()
    for _ in range(runs):
        (check,) = settle([measured(kind, draw, n, drop)])
        found[check.status] += 1
        found["stopped"] += not check.passed
    return found


def together(n: int, drop: float, gates: int, runs: int, seed: int) -> Counter[str]:
    """Verdicts of several gates of the first kind, each on rows of its own, all with the same true drop."""
    import numpy as np

    draw = np.random.default_rng([seed, n, gates, round(1e6 * drop)])
    found: Counter[str] = Counter()
    for _ in range(runs):
        items = [measured(KINDS[0], draw, n, drop) for _ in range(gates)]
        found["alone"] += any(settle([item])[0].status == "failed" for item in items)
        checks = settle(items)
        found["failed"] += any(check.status == "failed" for check in checks)
        found["passed"] += all(check.status == "passed" for check in checks)
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


def table(sizes: Sequence[int], runs: int, seed: int) -> Iterator[str]:
    head = (
        f"{'gate':22} {'true drop':16} {'n':>6} {'passed':>8} {'failed':>8} {'undecided':>10}  {'estimate fails':>14}"
    )
    yield head
    for kind in KINDS:
        for name, share in TRUE:
            for n in sizes:
                found = rates(kind, n, share * kind.limit, runs, seed)
                parts = [found[key] / runs for key in ("passed", "failed", "undecided", "stopped")]
                wrong = "  false alarms" if share <= 1 else "  misses"
                of = parts[1] if share <= 1 else parts[0]
                yield (
                    f"{kind.name:22} {name:16} {n:6} {parts[0]:8.1%} {parts[1]:8.1%} {parts[2]:10.1%}  {parts[3]:14.1%}"
                    f"{wrong} {of:.1%}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--rows", default="100,200,400,800")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for line in table([int(n) for n in given.rows.split(",")], given.runs, given.seed):
        print(line, flush=True)
    print("\nsix gates of the first kind at once, each at its limit, 400 rows each:")
    found = together(400, LIMIT, 6, given.runs, given.seed)
    print(f"some gate fails: {found['failed'] / given.runs:.1%} (without Holm {found['alone'] / given.runs:.1%})")
    print("\nrows that the power computation asks for, and how many evaluations of that size pass:")
    for kind, share in zip(KINDS, POWERS, strict=True):
        needed, passed = powers(kind, share, given.runs, given.seed)
        print(f"{kind.name:22} true drop {share:g} of the limit: {needed:6} rows, {passed:.1%}", flush=True)


if __name__ == "__main__":
    main()
