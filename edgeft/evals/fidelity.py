"""Is the file that ships the model that was trained? Text, token ids, stop tokens, logits and answers, told apart.

Called by the `verify` stage with the trained model as the reference and an exported file, opened in its own runtime, as
the candidate. What the trained model renders is given to both tokenizers, and its token ids to both models, so that a
wrong template is not taken for a wrong tokenizer, nor that for quantization.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from edgeft.errors import EdgeftError
from edgeft.evals import statistics
from edgeft.evals.awkward import STRINGS, Awkward
from edgeft.evals.divergence import compare
from edgeft.evals.encoded import common_prefix, encode
from edgeft.evals.estimate import Estimate, scaled
from edgeft.evals.questions import Case
from edgeft.evals.scores import Row, as_json
from edgeft.progress import Listener, Progress, silent
from edgeft.registry import Row as TableRow
from edgeft.runtimes.protocol import Runtime

REFUSED = "refused"
_LONGEST_TOKEN = 32  # characters of the text of a BOS token
EXAMPLES = 5  # differences that are told in full; all are counted
# What a gate line may ask of an exported file: figure -> where it stands in fidelity.json, and one line of help.
FIDELITY: dict[str, TableRow] = {
    "token_ids_equal": TableRow("tokens.share", "share of texts with the trained model's token ids"),
    "rendering_equal": TableRow("rendering.share", "share of conversations that the file's template renders alike"),
    "top1_agreement": TableRow("logits.all.top1_agreement", "share of positions with the same most likely token"),
    "mean_kl": TableRow("logits.all.mean_kl", "KL divergence from the trained model, nats per position"),
    "p999_kl": TableRow("logits.all.p999_kl", "99.9th percentile of that divergence over positions"),
    "furthest_probability": TableRow(
        "logits.all.furthest_probability", "of a classifier: how far a probability is from the trained one at most"
    ),
    "perplexity_ratio": TableRow("logits.all.perplexity_ratio", "perplexity of the rows, file / trained model"),
    "same_answers": TableRow("answers.same_share", "share of greedy answers that are the trained model's"),
    "common_prefix": TableRow("answers.mean_common_prefix", "part of an answer, from its start, that is the same"),
}
_UNWRITTEN = ("choice", "pairs", "perplexity")  # kinds of rows in which nothing was written


def examine(
    reference: Runtime,
    candidate: Runtime,
    cases: Sequence[Case],
    *,
    logit_rows: int | None,
    listen: Listener = silent,
) -> dict[str, Any]:
    """All of fidelity.json but the answers. `logit_rows` of the cases (None is all) are compared by logits."""
    rendering, tokens = Tally(), Tally()
    _text(reference, candidate, cases, (rendering, tokens), listen)
    awkward = _awkward(reference, candidate, rendering)
    result: dict[str, Any] = {
        "reference": reference.name,
        "file": candidate.name,
        "rendering": rendering.as_json(),
        "tokens": tokens.as_json(),
        "awkward": awkward,
        "stop_ids": _compare_stop_ids(reference, candidate, cases),
        "vocabulary": {
            "reference": reference.vocab_size,
            "file": candidate.vocab_size,
            "compared": min(reference.vocab_size, candidate.vocab_size),
        },
    }
    count = len(cases) if logit_rows is None else min(logit_rows, len(cases))
    chosen = [cases[i * len(cases) // count] for i in range(count)]
    encoded = [(case.id, encode(reference, case)) for case in chosen]
    result["logits"] = compare(reference, candidate, encoded, listen).as_json()
    return result


def _compare_stop_ids(reference: Runtime, candidate: Runtime, cases: Sequence[Case]) -> dict[str, Any]:
    """Stop tokens that the file lacks make it ramble. Those it adds (llama.cpp stops at every end-like special token)
    only matter if an answer holds one."""
    wanted, given = set(reference.stop_ids), set(candidate.stop_ids)
    added = given - wanted
    in_answers = set()
    for case in cases if added else ():
        item = encode(reference, case)
        in_answers |= added.intersection(item.ids[item.start : item.end])
    return {
        "reference": sorted(wanted),
        "file": sorted(given),
        "equal": wanted == given,
        "lacking": sorted(wanted - given),
        "added": sorted(added),
        "added_in_answers": sorted(in_answers),
    }


def _text(
    reference: Runtime, candidate: Runtime, cases: Sequence[Case], tallies: tuple[Tally, Tally], listen: Listener
) -> None:
    """Count rendered conversations and their token ids, with and without the answer."""
    rendering, tokens = tallies
    for number, case in enumerate(cases, 1):
        question = list(case.messages)
        whole, tools = [*question, case.turn], case.tools
        for messages, prompt in ((question, True), (whole, False)):
            text = reference.render(messages, add_generation_prompt=prompt, tools=tools)
            shown = attempt(partial(candidate.render, messages, add_generation_prompt=prompt, tools=tools))
            rendering.add(case.id, text, shown)
            tokens.add(case.id, reference.encode(text), attempt(lambda t=text: candidate.encode(t)))  # type: ignore[misc]
        listen(Progress(number, len(cases), "row", "rendering and token ids"))


def _awkward(reference: Runtime, candidate: Runtime, rendering: Tally) -> dict[str, Any]:
    """Token ids of awkward strings: bare, as a user's message, and as every turn of a conversation; how those render is
    counted with the other conversations. Differences in strings that are not required are listed apart, and so are
    bare strings that differ by the space before them only (see `_by_a_space`): a conversation begins with a special
    token."""
    needed, optional = Tally(), Tally()
    spaced: list[str] = []
    for string in (*STRINGS, *_own_markers(reference)):
        tally = needed if string.required else optional
        asked = {"role": "user", "content": string.text}
        said = {"role": "assistant", "content": string.text}
        forms = []
        for how, turns in (("as a message", [asked]), ("in a conversation", [asked, said, asked])):
            wrapped = reference.render(turns, add_generation_prompt=True)
            shown = attempt(lambda c=turns: candidate.render(c, add_generation_prompt=True))  # type: ignore[misc]
            name = f"{string.name} ({how})"
            rendering.add(name, wrapped, shown)
            ids = (reference.encode(wrapped), attempt(lambda t=wrapped: candidate.encode(t)))  # type: ignore[misc]
            forms.append((name, *ids))
        bare = (reference.encode(string.text), attempt(lambda t=string.text: candidate.encode(t)))  # type: ignore[misc]
        alike = all(mine == theirs for _, mine, theirs in forms)
        if bare[0] != bare[1] and alike and _by_a_space(candidate, string.text, bare[0]):
            spaced.append(string.name)
        else:
            tally.add(string.name, *bare)
        for form in forms:
            tally.add(*form)
    apart = {"space_before": spaced} if spaced else {}
    return needed.as_json() | {"not_required": optional.as_json()} | apart


def _by_a_space(candidate: Runtime, text: str, wanted: Sequence[int]) -> bool:
    """Whether the file gives the wanted ids of a bare text with a space before it. Llama 2's tokenizer puts one before
    a text, and none behind special tokens; GGUF can say both or neither, so the file does as in conversations."""
    return bool(attempt(lambda: candidate.encode(f" {text}")) == wanted)


def _own_markers(reference: Runtime) -> list[Awkward]:
    """What a user pastes who copies a whole conversation: the special tokens of this model's template, in content."""
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    return [Awkward("the model's own markers", f"see: {reference.render(turns)} and go on")]


def attempt(do: Callable[[], Any]) -> Any:
    """What the file's runtime gives, or why it refuses: a refusal is a difference, not the end of the examination."""
    try:
        return do()
    except EdgeftError as error:
        return f"{REFUSED}: {error.what}" if error.what else REFUSED


class Tally:
    """Counts equal pairs, keeps the first differences with the place where they begin."""

    def __init__(self) -> None:
        self.n = self.equal = 0
        self.kinds: Counter[str] = Counter()
        self.examples: list[dict[str, Any]] = []

    def add(self, name: str, wanted: Any, given: Any) -> None:
        self.n += 1
        if wanted == given:
            self.equal += 1
            return
        self.kinds[_kind(wanted, given)] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(_difference(name, wanted, given))

    def as_json(self) -> dict[str, Any]:
        share = self.equal / self.n if self.n else 1.0
        return {
            "n": self.n,
            "equal": self.equal,
            "share": round(share, 6),
            "kinds": dict(sorted(self.kinds.items())),
            "differences": self.examples,
        }


def _kind(wanted: Any, given: Any) -> str:
    """How two texts or lists of ids differ: "start dropped" and "start added" are BOS tokens."""
    if isinstance(given, str) and (not isinstance(wanted, str) or given.startswith(REFUSED)):
        return "refused"
    most = 1 if isinstance(wanted, list) else _LONGEST_TOKEN
    if given and 0 < len(wanted) - len(given) <= most and wanted[len(wanted) - len(given) :] == given:
        return "start dropped"
    if wanted and 0 < len(given) - len(wanted) <= most and given[len(given) - len(wanted) :] == wanted:
        return "start added"
    return "shortened" if wanted[: len(given)] == given else "other"


def _difference(name: str, wanted: Any, given: Any) -> dict[str, Any]:
    at = common_prefix(wanted, given)
    before = slice(max(0, at - 4), at + 12) if isinstance(wanted, list) else slice(max(0, at - 20), at + 60)
    shown = given if isinstance(given, str) != isinstance(wanted, str) else given[before]
    return {"id": name, "at": at, "reference": wanted[before], "file": shown}


def compare_answers(reference_rows: Sequence[Row], rows: Sequence[Row]) -> dict[str, Any]:
    """Answers to the suites, file against trained model: how many are the same, how long they go together (as a part of
    the longer one), and whether the file stops as often."""
    known = {(row["suite"], row["id"]): row for row in reference_rows}
    written = [row for row in rows if row.get("kind") not in _UNWRITTEN]
    pairs = [(known[key], row) for row in written if (key := (row["suite"], row["id"])) in known]
    if not pairs:
        return {"n": 0}
    stopped = [[float(row["stopped"]) for row in side] for side in zip(*pairs, strict=True)]
    same = [float(first["answer"] == second["answer"]) for first, second in pairs]
    prefixes = [
        common_prefix(first["answer"], second["answer"]) / max(len(first["answer"]), len(second["answer"]), 1)
        if first["answer"] != second["answer"]
        else 1.0
        for first, second in pairs
    ]
    shares, lengths = statistics.mean(same), statistics.mean(prefixes)
    return {
        "n": len(pairs),
        "same": int(sum(same)),
        "same_share": round(shares.value, 6),
        "mean_common_prefix": round(lengths.value, 6),
        "intervals": {"same_share": bounds(shares), "mean_common_prefix": bounds(lengths)},
        "stopped": {
            "reference": int(sum(stopped[0])),
            "file": int(sum(stopped[1])),
            "change": as_json(statistics.paired_difference(*stopped)),
        },
    }


def bounds(found: Estimate) -> list[float] | None:
    low, high = found.low, found.high
    return None if low is None or high is None else [round(low, 6), round(high, 6)]


def figures(fidelity: dict[str, Any]) -> dict[str, Estimate]:
    """Each figure that gates may name, with its interval; figures that could not be measured are left out. Shares of
    texts have none: every text that was asked for must be equal."""
    found = {}
    for name, row in FIDELITY.items():
        *path, last = row.target.split(".")
        place: Any = fidelity
        for key in path:
            place = (place or {}).get(key)
        if place and last in place:
            value, n = float(place[last]), int(place.get("n", place.get("positions", 0)))
            none = (None, None) if "intervals" in place else (value, value)
            low, high = (place.get("intervals") or {}).get(last) or none
            found[name] = scaled(value, n, low, high)
    return found
