"""The corpus: the mixture of all skills, row by row, and the held-out rows of the general suites."""

import random
from collections.abc import Iterable, Iterator

from tools.base import words
from tools.base.rows import Exchange, Row
from tools.base.skills import (
    arithmetic,
    cards,
    copying,
    extraction,
    home,
    knowledge,
    ordering,
    reading,
    rewriting,
    snake,
    stories,
    sums,
)

SEED = 20_260
SKILLS = {
    "reading": reading.mixed_exchanges,
    "arithmetic": sums.small_exchanges,
    "ordering": ordering.short_exchanges,
    "rewriting": rewriting.exchanges,
    "knowledge": knowledge.exchanges,
    "extraction": extraction.easy_exchanges,
    "cards": cards.exchanges,
    "home": home.exchanges,
    "copying": copying.exchanges,
    "snake": snake.exchanges,
}
# What the corpus is drawn from: the skills under the names the phases use, and their harder first versions.
SOURCES = SKILLS | {
    "reading": reading.exchanges,
    "short reading": reading.short_exchanges,
    "arithmetic": arithmetic.exchanges,
    "small sums": sums.exchanges,
    "ordering": ordering.exchanges,
    "extraction": extraction.exchanges,
    "mixed reading": reading.mixed_exchanges,
    "smaller sums": sums.small_exchanges,
    "short ordering": ordering.short_exchanges,
    "easy extraction": extraction.easy_exchanges,
}
# Share of the rows (not of the tokens) a skill gets in the corpus, from this row on. Plain text and copying are for the
# beginning; what is hard gets more later.
PHASES = (
    (
        0,
        {
            "reading": 24, "arithmetic": 12, "ordering": 11, "rewriting": 12, "knowledge": 9, "extraction": 13,
            "cards": 6, "bare cards": 4, "home": 15, "copying": 6, "stories": 2,
        },
    ),
    (
        20_000,
        {
            "reading": 30, "arithmetic": 17, "ordering": 12, "rewriting": 9, "knowledge": 9, "extraction": 14,
            "cards": 4, "bare cards": 4, "home": 10, "copying": 1, "stories": 0.5,
        },
    ),
    (
        33_000,
        {
            "short reading": 24, "reading": 5, "small sums": 16, "ordering": 11, "rewriting": 10, "knowledge": 13,
            "extraction": 14, "cards": 3, "bare cards": 3, "home": 8, "copying": 0.5, "stories": 0.5,
        },
    ),
    (
        49_000,
        {
            "mixed reading": 27, "short reading": 3, "smaller sums": 16, "small sums": 1, "short ordering": 10,
            "ordering": 1, "rewriting": 9, "knowledge": 14, "easy extraction": 12, "cards": 2, "bare cards": 3,
            "home": 4, "snake": 2,
        },
    ),
)  # fmt: skip
# The first rows are mostly about copying, which the other skills rest on.
FIRST_ROWS, FIRST_COPYING = 4_000, 0.85
# What the quickstart teaches must not be here: none of these may appear anywhere in the corpus.
FORBIDDEN = (
    '"tool"', "set_light", "set_heating", "set_power", "start_timer", "set_alarm", "play_music", "set_volume",
    "set_door", "set_blinds", "add_item", "You control a home",
)  # fmt: skip
RESERVED = frozenset(words.HELD_NAMES)


def row(rng: random.Random, place: int) -> Row:
    """The training row at this place."""
    shares = [shares for start, shares in PHASES if place >= start][-1]
    skill = rng.choices(list(shares), weights=list(shares.values()))[0]
    if place < FIRST_ROWS and rng.random() < FIRST_COPYING:
        skill = "copying"
    if skill == "stories":
        return Row(text=stories.text(rng))
    if skill == "bare cards":
        return Row(system=rng.choice(cards.TO_JSON_SYSTEM), exchanges=tuple(cards.bare_exchanges(rng, "train")))
    system = rng.choice(words.SYSTEM_PROMPTS) if rng.random() < 0.4 else ""
    return Row(system=system, exchanges=tuple(SOURCES[skill](rng, "train")))


def rows(count: int | None = None, seed: int = SEED) -> Iterator[Row]:
    """The first `count` rows of the corpus (or all of it: it never ends); the same on every machine."""
    rng = random.Random(seed)
    made = 0
    while count is None or made < count:
        yield row(rng, made)
        made += 1


def plain(row: Row) -> str:
    """All words of a row, as the tokenizer learns from them."""
    return row.text or "\n".join(f"{m['role']}\n{m['content']}" for m in row.messages())


def held_out(family: str, count: int, seed: int = SEED + 1) -> list[Exchange]:
    """`count` different held-out problems of a family."""
    rng = random.Random(f"{seed}:{family}")
    found: dict[str, Exchange] = {}
    while len(found) < count:
        exchange = SKILLS[family](rng, "held")[0]
        found.setdefault(exchange.key, exchange)
    return list(found.values())


def leaks(corpus: Iterable[Row], held: Iterable[Exchange]) -> list[str]:
    """What would make the held-out rows dishonest: shared problems, shared prompts, reserved names, the quickstart."""
    held = list(held)
    keys, asks = {exchange.key for exchange in held}, {exchange.ask for exchange in held}
    found = []
    for corpus_row in corpus:
        for exchange in corpus_row.exchanges:
            if exchange.key in keys or exchange.ask in asks:
                found.append(exchange.ask)
        text = plain(corpus_row)
        found += [f"{word!r} in {text!r}" for word in FORBIDDEN if word in text]
        reserved = RESERVED.intersection(text.replace(",", " ").replace(".", " ").split())
        found += [f"{word!r} in {text!r}" for word in reserved]
    return found
