"""What every exported file must have, whether or not a recipe asks: judged from what `fidelity` found. Called by the
`verify` stage.
"""

from __future__ import annotations

from typing import Any

from edgeft.evals.fidelity import EXAMPLES
from edgeft.evals.gates import Check, required

# Mean KL in nats beyond which a file is not the trained model in another form but another model. Float types only round
# (measured: 1e-12 to 4e-5), 8 bits come near it (6e-5 to 1e-3); what 4 bits cost depends on the model (4e-3 to 0.12).
WORST_MEAN_KL = {"float": 0.01, "8-bit": 0.05, "fewer bits": 1.0}
PRECISION = {"f32": "float", "f16": "float", "bf16": "float", "fp32": "float", "fp16": "float"} | {
    "q8_0": "8-bit",
    "int8": "8-bit",
}
WORST_STOP_DROP = 0.02


def precision_of(type_name: str) -> str:
    """ "float", "8-bit" or "fewer bits": a key of `WORST_MEAN_KL`."""
    return PRECISION.get(type_name, "fewer bits")


def requirements(fidelity: dict[str, Any], type_name: str) -> list[Check]:
    """What every file must have, whether or not a recipe asks: each check names its cause. `type_name` ("f16",
    "q4_k_m") says how near its logits must be."""
    return [
        all_equal(
            "rendering equal", fidelity["rendering"], "the chat template in the file is not the one trained with"
        ),
        all_equal("token ids equal", fidelity["tokens"], tokenizer_cause(fidelity)),
        all_equal("token ids equal on awkward strings", fidelity["awkward"], tokenizer_cause(fidelity)),
        _stop_ids(fidelity["stop_ids"]),
        _stops(fidelity.get("answers", {"n": 0})),
        _logits(fidelity["logits"], precision_of(type_name)),
    ]


def all_equal(name: str, part: dict[str, Any], cause: str) -> Check:
    n, equal = part["n"], part["equal"]
    detail = f"{equal} of {n} are equal"
    if equal < n:
        first = part["differences"][0]
        detail += f"; {cause}; first: {first['id']}, from place {first['at']}"
    if part.get("space_before"):
        detail += f"; {len(part['space_before'])} more differ bare only, by the tokenizer's space before a text"
    return required(name, equal == n, detail, value=part["share"], n=n)


def tokenizer_cause(fidelity: dict[str, Any]) -> str:
    """Which part of the tokenizer it looks like, from the first difference."""
    differences = [*fidelity["tokens"]["differences"], *fidelity["awkward"]["differences"]]
    if not differences:
        return ""
    first = differences[0]
    wanted, given = first["reference"], first["file"]
    if isinstance(given, str):
        return f"the tokenizer in the file {given}"
    if first["at"] == 0 and wanted[1 : 1 + len(given)] == given[: len(wanted) - 1]:
        return "the file's tokenizer drops the first token (BOS)"
    if first["at"] == 0 and given[1 : 1 + len(wanted)] == wanted[: len(given) - 1]:
        return "the file's tokenizer adds a token at the start (BOS)"
    return "the tokenizer in the file splits text in another way"


def _stop_ids(part: dict[str, Any]) -> Check:
    told = [f"trained with {part['reference']}"]
    told += [f"the file lacks {part['lacking']}"] if part["lacking"] else []
    told += [f"the file also stops at {part['added']}"] if part["added"] else []
    told += [f"answers hold {part['added_in_answers']}"] if part["added_in_answers"] else []
    passed = not part["lacking"] and not part["added_in_answers"]
    return required("stop tokens equal", passed, "; ".join(told), n=len(part["reference"]))


def _stops(answers: dict[str, Any]) -> Check:
    name = "stops where the trained model stops"
    if not answers["n"]:
        return required(name, True, "no suite was answered")
    part = answers["stopped"]
    high = part["change"]["high"]
    passed = high is None or high >= -WORST_STOP_DROP
    detail = f"{part['file']} of {answers['n']} answers end with a stop token, the trained model's: {part['reference']}"
    return required(name, passed, detail, value=part["change"]["value"], n=answers["n"])


def _logits(part: dict[str, Any], precision: str) -> Check:
    name = "the same model"
    if part["not_finite"]:
        bad = part["not_finite"]
        detail = f"logits are NaN or infinite on {len(bad)} rows: {', '.join(bad[:EXAMPLES])}"
        return required(name, False, detail, n=len(bad) + part["rows"])
    if not part["all"]:
        return required(name, False, "no row could be compared", n=0)
    kl, top = part["all"]["mean_kl"], part["all"]["top1_agreement"]
    worst = WORST_MEAN_KL[precision]
    passed = kl <= worst
    detail = f"mean KL {kl:.4g} nats, top-1 agreement {100 * top:.1f} % over {part['all']['positions']} positions"
    if not passed:
        detail += f"; more than {worst:g} nats is not what {precision} costs"
    return required(name, passed, detail, value=kl, n=part["all"]["positions"])
