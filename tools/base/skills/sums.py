"""Small sums: up to twenty and a digit, doubles and halves. Facts to know, like other facts, asked in many ways.

A held-out row pairs a sum with a question it was never asked in.
"""

import random
from collections.abc import Callable

from tools.base import words
from tools.base.rows import Exchange, several
from tools.base.skills.arithmetic import step

ADD = (
    "How much is {a} plus {b}?",
    "{a} and {b} together?",
    "The sum of {a} and {b}?",
    "{a} + {b} = ?",
    "Tell me {a} + {b}.",
    "You have {a} and get {b} more. How many?",
)
SUBTRACT = (
    "How much is {a} minus {b}?",
    "{a} without {b}?",
    "The difference of {a} and {b}?",
    "{a} - {b} = ?",
    "Tell me {a} - {b}.",
    "You have {a} and lose {b}. How many are left?",
)
DOUBLE = ("What is twice {a}?", "Double {a}.", "{a} two times?", "How much is {a} doubled?")
HALF = ("What is half of {a}?", "Halve {a}.", "{a} shared by two?", "How much is {a} halved?")


def _problem(rng: random.Random, most: int) -> tuple[str, int, int, int]:
    """Kind, the two numbers and the result."""
    kind = rng.choice(("add", "add", "add", "subtract", "subtract", "subtract", "double", "half"))
    a, b = rng.randint(1, most), rng.randint(1, 9)
    if kind == "add":
        return kind, *rng.choice(((a, b), (a, b), (b, a))), a + b
    if kind == "subtract":
        return kind, max(a, b), min(a, b), abs(a - b)
    return (kind, a, 0, 2 * a) if kind == "double" else (kind, 2 * a, 0, a)


def _sum(rng: random.Random, split: str, most: int) -> Exchange:
    kind, a, b, result = _problem(rng, most)
    frame = rng.choice({"add": ADD, "subtract": SUBTRACT, "double": DOUBLE, "half": HALF}[kind])
    return Exchange(frame.format(a=a, b=b), str(result), f"arithmetic:{kind}:{frame}|{a},{b}")


def _batch(rng: random.Random, split: str, most: int) -> Exchange:
    """Several at once; for training only."""
    asked, answers = [], []
    for _ in range(rng.randint(2, 7)):
        kind, a, b, result = _problem(rng, most)
        asked.append(
            {"add": f"{a} + {b}", "subtract": f"{a} - {b}", "double": f"twice {a}", "half": f"half of {a}"}[kind]
        )
        answers.append(str(result))
    text = ", ".join(asked)
    return Exchange(f"Results, please: {text}", ", ".join(answers), f"arithmetic:results:{text}")


def _story(rng: random.Random, split: str, most: int) -> Exchange:
    kind, a, b, result = _problem(rng, most)
    while kind not in ("add", "subtract"):
        kind, a, b, result = _problem(rng, most)
    frame = "{n} has {a} {o}, then {v} {b}. How many {o}?"
    verb = rng.choice(("finds", "buys", "gets") if kind == "add" else ("loses", "sells", "eats"))
    text = frame.format(n=words.person(rng, split), a=a, b=b, o=rng.choice(words.COUNTED), v=verb)
    return Exchange(text, str(result), f"arithmetic:story:{text}")


def _makers(most: int, split: str) -> Callable[[random.Random, str], Exchange]:
    kinds = (_sum, _sum, _sum, _story) if split == "held" else (_sum, _sum, _batch, _batch, _story)

    def one(rng: random.Random, split: str) -> Exchange:
        maker = rng.choice((*kinds, None))
        return maker(rng, split, most) if maker else step(rng, split)

    return one


def exchanges(rng: random.Random, split: str, most: int = 20) -> list[Exchange]:
    """One to six problems, one after another; `most` is the largest first number."""
    return several(rng, split, _makers(most, split), 6)


def small_exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """Ten and a digit."""
    return exchanges(rng, split, 10)
