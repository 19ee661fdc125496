"""Where a difference between a file and the trained model comes from. Called by the `verify` stage after `fidelity`.

Causes: template, tokenizer, stop tokens, conversion, quantization. Text and token ids are compared before any logit is
(see `fidelity`), so a wrong template is not taken for another model. What is left between the logits is the fault of
the conversion when settings or weights are not those of the source, or when the values are only rounded; else it is
what the type costs: the weights are the nearest that it can hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgeft.evals.gates import Check, required

TEMPLATE, TOKENIZER, STOPS = "template", "tokenizer", "stop tokens"
CONVERSION, QUANTIZATION = "conversion", "quantization"
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
_ROPE_BASE = "rope.freq_base"
_HEADS = ("attn_q.weight", "attn_k.weight", "q_proj.weight", "k_proj.weight")  # as GGUF and checkpoints name them


def diagnose(fidelity: Mapping[str, Any], precision: str, worst: float) -> list[dict[str, str]]:
    """[{"cause", "what", "detail"}], what was found first; empty for a faithful file.

    precision  "float", "8-bit" or "fewer bits"; `worst` the mean KL in nats that this explains
    """
    found = [*_template(fidelity), *_tokenizer(fidelity), *_stops(fidelity), *_settings(fidelity), *_weights(fidelity)]
    found += _distance(fidelity, precision, worst, explained=any(entry["cause"] == CONVERSION for entry in found))
    unique = {(entry["cause"], entry["what"]): entry for entry in reversed(found)}
    return [unique[key] for key in dict.fromkeys((entry["cause"], entry["what"]) for entry in found)]


def checks(fidelity: Mapping[str, Any]) -> list[Check]:
    """What the comparison with the source requires; nothing when there was none (adapters, graphs of optimum)."""
    conversion = fidelity.get("conversion")
    if not conversion:
        return []
    settings, tensors = conversion["settings"], conversion["tensors"]
    said = "; ".join(_of_setting(entry)["detail"] for entry in settings[:3]) or "as the source's"
    odd = "; ".join(f"{entry['name']}: {entry['what']}" for entry in tensors["wrong"][:3])
    rounding = ", ".join(f"{kind} {error:.2g}" for kind, error in sorted(tensors["worst"].items()))
    return [
        required("settings of the source", not settings, said, n=len(settings)),
        required(
            "weights of the source",
            not tensors["wrong"],
            odd or f"{tensors['read']} tensors; largest relative error of a row: {rounding}",
            n=tensors["read"],
        ),
    ]


def _entry(cause: str, what: str, detail: str) -> dict[str, str]:
    return {"cause": cause, "what": what, "detail": detail}


def _template(fidelity: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    part = fidelity["rendering"]
    if part["equal"] == part["n"]:
        return
    kinds = part["kinds"]
    detail = f"{part['n'] - part['equal']} of {part['n']} conversations render otherwise"
    setting = next((entry for entry in _of(fidelity) if entry["key"] == "tokenizer.chat_template"), None)
    cut = setting and setting["found"] is not None and str(setting["wanted"]).startswith(str(setting["found"]))
    if cut and setting:
        detail += f"; the file holds the first {len(setting['found'])} of {len(setting['wanted'])} characters"
    differing = part["n"] - part["equal"]
    if kinds.get("start dropped", 0) == differing:
        yield _entry(TOKENIZER, "dropped BOS", f"{detail}: without the text of the first token")
    elif kinds.get("start added", 0) == differing:
        yield _entry(TOKENIZER, "added BOS", f"{detail}: with a text before the first token")
    elif cut or kinds.get("shortened", 0) == differing:
        yield _entry(TEMPLATE, "truncated template", detail)
    elif setting and setting["found"] is None:
        yield _entry(TEMPLATE, "missing template", detail)
    elif kinds.get("refused", 0) == differing:
        yield _entry(TEMPLATE, "broken template", f"{detail}: {part['differences'][0]['file']}")
    else:
        yield _entry(TEMPLATE, "another template", detail)


def _tokenizer(fidelity: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for name in ("tokens", "awkward"):
        part = fidelity[name]
        differing, kinds = part["n"] - part["equal"], part["kinds"]
        if not differing:
            continue
        detail = f"{differing} of {part['n']} texts have other token ids, first {part['differences'][0]['id']}"
        if kinds.get("start dropped", 0) == differing:
            yield _entry(TOKENIZER, "dropped BOS", detail)
        elif kinds.get("start added", 0) == differing:
            yield _entry(TOKENIZER, "added BOS", detail)
        elif kinds.get("refused", 0) == differing:
            yield _entry(TOKENIZER, "text is refused", detail)
        else:
            yield _entry(TOKENIZER, "text is split in another way", detail)


def _stops(fidelity: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    part = fidelity["stop_ids"]
    if part["lacking"]:
        yield _entry(STOPS, "missing end-of-turn", f"the file does not stop at {part['lacking']}")
    if part["added_in_answers"]:
        yield _entry(STOPS, "stops inside answers", f"the file also stops at {part['added_in_answers']}")


def _of(fidelity: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list((fidelity.get("conversion") or {}).get("settings") or ())


def _settings(fidelity: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for entry in _of(fidelity):
        if entry["key"] != "tokenizer.chat_template":
            yield _of_setting(entry)


def _of_setting(entry: Mapping[str, Any]) -> dict[str, str]:
    """A setting's cause and name, by its key."""
    key, wanted, found = str(entry["key"]), entry["wanted"], entry["found"]
    if key == "tokenizer.chat_template":
        return _entry(TEMPLATE, "another template", "the chat template is another")
    detail = (
        f"{key} is {'missing' if found is None else found}, the source says {'nothing' if wanted is None else wanted}"
    )
    if key.endswith(_ENDS):
        return _entry(STOPS, "missing end-of-turn" if wanted is not None else "another end-of-turn", detail)
    if key.endswith("bos_token_id") or key.endswith("add_bos_token"):
        dropped = found is None or (key.endswith("add_bos_token") and not found)
        return _entry(TOKENIZER, "dropped BOS" if dropped else "another BOS", detail)
    if key.startswith("tokenizer."):
        return _entry(TOKENIZER, "another vocabulary", detail)
    return _entry(CONVERSION, "wrong rope base" if key.endswith(_ROPE_BASE) else "wrong setting", detail)


def _weights(fidelity: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for entry in ((fidelity.get("conversion") or {}).get("tensors") or {}).get("wrong", ()):
        swapped = "swapped" in entry["what"]
        heads = entry["name"].endswith(_HEADS)
        what = f"swapped rows{' in q/k' if heads else ''}" if swapped else "wrong weights"
        yield _entry(CONVERSION, what, f"{entry['name']}: {entry['what']}")


def _distance(fidelity: Mapping[str, Any], precision: str, worst: float, *, explained: bool) -> list[dict[str, str]]:
    """What the logits say where settings and weights do not explain it."""
    part = fidelity["logits"]
    if part["not_finite"]:
        return [_entry(CONVERSION, "logits are NaN or infinite", f"on {len(part['not_finite'])} rows")]
    if explained or not part["all"] or part["all"]["mean_kl"] <= worst:
        return []
    far = f"mean KL {part['all']['mean_kl']:.4g} nats"
    if not fidelity.get("conversion"):
        return [_entry(CONVERSION, "another model", f"{far}: more than {precision} explains")]
    if precision == "fewer bits":
        return [
            _entry(QUANTIZATION, "the type costs too much", f"{far}, of weights that are as near as it can hold them")
        ]
    detail = f"{far} although settings and weights are the source's: the runtime computes something else"
    return [_entry(CONVERSION, "another computation", detail)]
