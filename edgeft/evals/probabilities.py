"""Is the classifier that ships the one that was trained? Labels, token ids and probabilities, told apart.

Called by the `verify` stage with the trained head as the reference and an exported file as the candidate. Both classify
the reference's token ids, so that a wrong tokenizer is not taken for quantization. What is found has the form of
`edgeft.evals.fidelity` where both have a figure (`tokens`, `awkward`, `logits`), so gates and reports read it alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from edgeft.evals import statistics
from edgeft.evals.awkward import STRINGS
from edgeft.evals.fidelity import WORST_MEAN_KL, Tally, all_equal, attempt, bounds, precision_of, tokenizer_cause
from edgeft.evals.gates import Check, required
from edgeft.evals.scores import as_json
from edgeft.progress import Listener, Progress, silent
from edgeft.runtimes.classifier import Classifier
from edgeft.runtimes.protocol import Message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WORST_DROP = 0.02  # of the share of right labels, when the interval of the drop lies wholly beyond it
_LEAST = 1e-12  # a probability of zero has no logarithm
_DIGITS = 9


class Shipped(Classifier, Protocol):
    """A classifier that cuts what is longer than it may read."""

    def shortened(self, ids: Sequence[int], *, text: bool) -> list[int]: ...


def examine(
    reference: Classifier,
    candidate: Shipped,
    rows: Sequence[tuple[str, str | Sequence[Message], str]],
    *,
    limit: int | None = None,
    listen: Listener = silent,
) -> dict[str, Any]:
    """All of fidelity.json. rows: (id, text or conversation, expected label); at most `limit` of them, spread evenly,
    are classified, all of them tokenized."""
    tokens, awkward, optional = Tally(), Tally(), Tally()
    whole = []
    for number, (name, row, _) in enumerate(rows, 1):
        ids = candidate.shortened(reference.encode(row), text=isinstance(row, str))
        tokens.add(name, ids, attempt(lambda r=row: candidate.encode(r)))  # type: ignore[misc]
        whole.append(ids)
        listen(Progress(number, len(rows), "row", "token ids"))
    for string in STRINGS:
        tally = awkward if string.required else optional
        wanted = candidate.shortened(reference.encode(string.text), text=True)
        tally.add(string.name, wanted, attempt(lambda t=string.text: candidate.encode(t)))  # type: ignore[misc]
    count = len(rows) if limit is None else min(limit, len(rows))
    chosen = [i * len(rows) // count for i in range(count)]
    ids = [whole[i] for i in chosen]
    expected = [rows[i][2] for i in chosen]
    same = reference.labels == candidate.labels
    first = reference.classify(ids) if ids else None
    second = candidate.classify(ids) if ids and same else None
    return {
        "reference": reference.name,
        "file": candidate.name,
        "labels": {"reference": list(reference.labels), "file": list(candidate.labels), "equal": same},
        "tokens": tokens.as_json(),
        "awkward": awkward.as_json() | {"not_required": optional.as_json()},
        "logits": compare([rows[i][0] for i in chosen], first, second),
        "right": _right(reference.labels, expected, first, second),
    }


def compare(
    names: Sequence[str], first: NDArray[np.float32] | None, second: NDArray[np.float32] | None
) -> dict[str, Any]:
    """float32[n, labels] probabilities of the trained head and of the file, with the keys of `divergence`: a row is a
    position. Intervals (95 %) are over rows."""
    import numpy as np

    if first is None or second is None:
        return {"rows": 0, "not_finite": [], "all": None}
    finite = np.isfinite(second).all(axis=1)
    bad = [name for name, fine in zip(names, finite.tolist(), strict=True) if not fine]
    if bad:
        return {"rows": int(finite.sum()), "not_finite": bad, "all": None}
    p, q = (np.maximum(side.astype(np.float64), _LEAST) for side in (first, second))
    kl = np.maximum((p * (np.log(p) - np.log(q))).sum(axis=1), 0.0)  # probabilities in 32 bits add up to nearly one
    same = (first.argmax(axis=1) == second.argmax(axis=1)).astype(float)
    furthest = np.abs(first.astype(np.float64) - second.astype(np.float64)).max(axis=1)
    worst = int(furthest.argmax())
    return {
        "rows": len(names),
        "not_finite": [],
        "worst": names[worst],
        "all": {
            "positions": len(names),
            "top1_agreement": round(float(same.mean()), _DIGITS),
            "mean_kl": round(float(kl.mean()), _DIGITS),
            "p999_kl": round(float(np.percentile(kl, 99.9)), _DIGITS),
            "max_kl": round(float(kl.max()), _DIGITS),
            "furthest_probability": round(float(furthest.max()), _DIGITS),
            "mean_difference": round(float(furthest.mean()), _DIGITS),
            "intervals": {
                "mean_kl": bounds(statistics.mean(kl.tolist())),
                "top1_agreement": bounds(statistics.mean(same.tolist())),
                "furthest_probability": [round(float(furthest.max()), _DIGITS)] * 2,
            },
        },
    }


def _right(
    labels: Sequence[str],
    expected: Sequence[str],
    first: NDArray[np.float32] | None,
    second: NDArray[np.float32] | None,
) -> dict[str, Any]:
    """How many rows each gives the label that the data says, and whether the difference is more than chance."""
    if first is None or second is None:
        return {"n": 0}
    sides = [
        [float(labels[best] == label) for best, label in zip(side.argmax(axis=1).tolist(), expected, strict=True)]
        for side in (first, second)
    ]
    return {
        "n": len(expected),
        "reference": int(sum(sides[0])),
        "file": int(sum(sides[1])),
        "change": as_json(statistics.paired_difference(*sides)),
        "p_value": round(statistics.mcnemar(*sides), 6),
    }


def requirements(found: dict[str, Any], type_name: str) -> list[Check]:
    """What every exported classifier must have, whether or not a recipe asks."""
    labels = found["labels"]
    told = f"trained with {labels['reference']}" + ("" if labels["equal"] else f"; the file has {labels['file']}")
    return [
        required("labels equal", labels["equal"], told, n=len(labels["reference"])),
        all_equal("token ids equal", found["tokens"], tokenizer_cause(found)),
        all_equal("token ids equal on awkward strings", found["awkward"], tokenizer_cause(found)),
        _same_model(found["logits"], precision_of(type_name)),
        _as_right(found["right"]),
    ]


def _same_model(part: dict[str, Any], precision: str) -> Check:
    name = "the same model"
    if part["not_finite"]:
        bad = part["not_finite"]
        return required(name, False, f"probabilities are not numbers on {len(bad)} rows: {', '.join(bad[:5])}")
    if not part["all"]:
        return required(name, False, "no row could be compared", n=0)
    figures, worst = part["all"], WORST_MEAN_KL[precision]
    passed = figures["mean_kl"] <= worst
    detail = (
        f"mean KL {figures['mean_kl']:.4g} nats, the same label on {100 * figures['top1_agreement']:.1f} % of "
        f"{figures['positions']} rows, the furthest probability off by {figures['furthest_probability']:.4g}"
    )
    if not passed:
        detail += f"; more than {worst:g} nats is not what {precision} costs"
    return required(name, passed, detail, value=figures["mean_kl"], n=figures["positions"])


def _as_right(part: dict[str, Any]) -> Check:
    """A drop that is surely more than a hair: what 4 bits may cost beyond that is the recipe's to gate."""
    name = "as often right as the trained model"
    if not part["n"]:
        return required(name, False, "no row could be compared", n=0)
    change = part["change"]
    passed = change["high"] is None or change["high"] >= -WORST_DROP
    detail = (
        f"{part['file']} of {part['n']} labels are right, the trained model's: {part['reference']} (McNemar's exact "
        f"test: p = {part['p_value']:.3g})"
    )
    return required(name, passed, detail, value=change["value"], n=part["n"])
