"""Small arithmetic: sums, differences, doubles, halves and one-step stories with numbers below a hundred."""

import random

from tools.base import words
from tools.base.rows import Exchange, several

ADD = ("What is {a} + {b}?", "{a} + {b} =", "Add {a} and {b}.", "{a} plus {b}?", "What do {a} and {b} make together?",
       "Compute {a} + {b}.", "Work out {a} plus {b}.")  # fmt: skip
SUB = ("What is {a} - {b}?", "{a} - {b} =", "Subtract {b} from {a}.", "{a} minus {b}?", "Take {b} away from {a}.",
       "Compute {a} - {b}.", "Work out {a} minus {b}.")  # fmt: skip
ADD_STORIES = (
    "{n} has {a} {o} and gets {b} more. How many {o} does {n} have now?",
    "There are {a} {o} on the table and {b} in the box. How many {o} are there?",
    "{n} found {a} {o}, then {b} more. How many {o} is that?",
)
SUB_STORIES = (
    "{n} had {a} {o} and gave away {b}. How many {o} are left?",
    "There were {a} {o}. {n} took {b} of them. How many remain?",
    "{n} had {a} {o} but lost {b}. How many {o} does {n} still have?",
)


def _operands(rng: random.Random) -> tuple[int, int]:
    """Mostly a number below a hundred and a digit; sometimes two round numbers."""
    roll = rng.random()
    if roll < 0.2:
        return 10 * rng.randint(1, 9), 10 * rng.randint(1, 9)
    return rng.randint(1, 60), rng.randint(1, 9)


def _sum(rng: random.Random, split: str) -> Exchange:
    a, b = _operands(rng)
    low, high = sorted((a, b))
    if rng.random() < 0.3:
        a, b = b, a
    frames = ADD_STORIES if rng.random() < 0.25 else ADD
    ask = rng.choice(frames).format(a=a, b=b, n=words.person(rng, split), o=rng.choice(words.COUNTED))
    return Exchange(ask, str(a + b), f"arithmetic:add:{low}+{high}")


def _difference(rng: random.Random, split: str) -> Exchange:
    a, b = _operands(rng)
    if a < b:
        a, b = b, a
    frames = SUB_STORIES if rng.random() < 0.25 else SUB
    ask = rng.choice(frames).format(a=a, b=b, n=words.person(rng, split), o=rng.choice(words.COUNTED))
    return Exchange(ask, str(a - b), f"arithmetic:subtract:{a}-{b}")


def step(rng: random.Random, split: str) -> Exchange:
    """The number before or after, or ten more."""
    a = rng.randint(1, 98)
    frame, value = rng.choice(
        (
            ("What comes after {a}?", a + 1), ("What comes before {a}?", a - 1),
             ("Which number is one more than {a}?", a + 1),
            ("Which number is one less than {a}?", a - 1), ("Count on from {a}.", a + 1),
             ("Which number is ten more than {a}?", a + 10),
        )
    )  # fmt: skip
    return Exchange(frame.format(a=a), str(value), f"arithmetic:step:{frame}{a}")


def _batch(rng: random.Random, split: str) -> Exchange:
    """Several sums at once; for training only, since its key names no single problem."""
    sums = []
    for _ in range(rng.randint(2, 6)):
        problem = several(rng, "train", rng.choice((_sum, _difference)), 1)[0]
        sums.append((_formula(rng, problem.key), problem.answer))
    asked, answers = zip(*sums, strict=True)
    frame = rng.choice(("Work these out: {x}", "Solve: {x}", "{x}\nGive all results."))
    return Exchange(frame.format(x=", ".join(asked)), ", ".join(answers), "arithmetic:batch:" + ",".join(asked))


def _formula(rng: random.Random, key: str) -> str:
    _, kind, sum_ = key.split(":")
    if kind == "add" and rng.random() < 0.5:
        sum_ = "+".join(reversed(sum_.split("+")))
    return sum_.replace("+", " + ").replace("-", " - ")


def _one(rng: random.Random, split: str) -> Exchange:
    makers = (_sum, _sum, _difference, _difference, step)
    if split == "train":
        makers += (_batch, _batch)
    return rng.choice(makers)(rng, split)


def exchanges(rng: random.Random, split: str) -> list[Exchange]:
    """One to six problems, one after another."""
    return several(rng, split, _one, 6)


def lines(rng: random.Random) -> str:
    """Sums as plain text, one a line: the densest way to practise. Training problems only."""
    made = []
    while len(made) < 8:
        problem = several(rng, "train", rng.choice((_sum, _difference)), 1)[0]
        made.append(f"{_formula(rng, problem.key)} = {problem.answer}")
    return "\n".join(made)
