"""Which ggml type each tensor of a GGUF file type gets, for dense decoders, without llama.cpp: for plans made offline.

The facts are llama.cpp's (`llama_tensor_get_type` and `tensor_type_fallback`), written down as a table; a test asks
llama.cpp itself. The export does not use it: there llama.cpp decides. Called by `edgeft.models.shapes`.
"""

from __future__ import annotations

from dataclasses import dataclass

# ggml type -> (bytes, weights) of a block.
BLOCKS: dict[str, tuple[int, int]] = {
    "F32": (4, 1), "F16": (2, 1), "BF16": (2, 1),
    "Q8_0": (34, 32), "Q5_1": (24, 32), "Q5_0": (22, 32), "Q4_1": (20, 32), "Q4_0": (18, 32), "IQ4_NL": (18, 32),
    "Q6_K": (210, 256), "Q5_K": (176, 256), "Q4_K": (144, 256), "IQ4_XS": (136, 256), "Q3_K": (110, 256),
    "IQ3_S": (110, 256), "IQ3_XXS": (98, 256), "Q2_K": (84, 256), "IQ2_S": (82, 256), "IQ2_XS": (74, 256),
    "IQ2_XXS": (66, 256), "TQ2_0": (66, 256), "IQ1_M": (56, 256), "TQ1_0": (54, 256), "IQ1_S": (50, 256),
}  # fmt: skip
# File type -> the type of a tensor that nothing is said of below.
USUAL: dict[str, str] = {
    "f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q6_k": "Q6_K", "q5_k_m": "Q5_K", "q5_k_s": "Q5_K",
    "q5_0": "Q5_0", "q5_1": "Q5_1", "q4_k_m": "Q4_K", "q4_k_s": "Q4_K", "q4_0": "Q4_0", "q4_1": "Q4_1",
    "iq4_nl": "IQ4_NL", "iq4_xs": "IQ4_XS", "q3_k_l": "Q3_K", "q3_k_m": "Q3_K", "q3_k_s": "Q3_K", "iq3_m": "IQ3_S",
    "iq3_s": "IQ3_S", "iq3_xs": "IQ3_S", "iq3_xxs": "IQ3_XXS", "q2_k": "Q2_K", "q2_k_s": "Q2_K", "iq2_m": "IQ2_S",
    "iq2_s": "IQ2_XS", "iq2_xs": "IQ2_XS", "iq2_xxs": "IQ2_XXS", "iq1_m": "IQ1_M", "iq1_s": "IQ1_S", "tq2_0": "TQ2_0",
    "tq1_0": "TQ1_0", "mxfp4_moe": "Q8_0",
}  # fmt: skip
PLAIN = ("f32", "f16", "bf16")
NEED_IMATRIX = ("iq3_xs", "iq3_xxs", "q2_k_s", "iq2_m", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s")
_SMALLEST = ("iq2_xxs", "iq2_xs", "iq1_s", "iq1_m")
_SMALL = ("iq2_s", "iq2_m")

Rules = tuple[tuple[str, str], ...]  # (when, type): the first that holds counts
_VALUES: dict[str, Rules] = {
    **dict.fromkeys(_SMALLEST, (("grouped", "Q4_K"), ("always", "Q2_K"))),
    **dict.fromkeys(_SMALL, (("grouped", "Q4_K"), ("always", "IQ3_S"))),
    "q2_k": (("grouped", "Q4_K"), ("always", "Q3_K")),
    "q2_k_s": (("grouped", "Q4_K"),),
    "iq3_xxs": (("grouped", "Q4_K"), ("matrix", "IQ3_XXS"), ("always", "IQ3_S")),
    "iq3_xs": (("grouped", "Q4_K"),),
    "iq3_s": (("grouped", "Q4_K"),),
    "iq3_m": (("always", "Q4_K"),),
    "q3_k_m": (("first two", "Q5_K"), ("always", "Q4_K")),
    "q3_k_l": (("always", "Q5_K"),),
    "iq4_nl": (("grouped", "Q5_K"),),
    "iq4_xs": (("grouped", "Q5_K"),),
    "q4_k_m": (("more", "Q6_K"),),
    "q5_k_m": (("more", "Q6_K"),),
    "q4_k_s": (("first four", "Q5_K"),),
}
_QUERIES: dict[str, Rules] = {"iq3_xs": (("always", "IQ3_XXS"),), "iq3_xxs": (("always", "IQ2_S"),)}
_WIDE: dict[str, Rules] = {"iq3_xs": (("middle", "IQ3_XXS"),)}
RULES: dict[str, dict[str, Rules]] = {
    "v_proj": _VALUES,
    "qkv_proj": _VALUES,
    "q_proj": _QUERIES,
    "k_proj": _QUERIES,
    "o_proj": {
        "iq1_s": (("always", "IQ2_XXS"),),
        "iq1_m": (("always", "IQ2_XXS"),),
        **dict.fromkeys((*_SMALL, "iq3_xxs"), (("always", "IQ3_S"),)),
        "q2_k": (("always", "Q3_K"),),
        "q3_k_m": (("always", "Q4_K"),),
        "q3_k_l": (("always", "Q5_K"),),
        "iq3_m": (("always", "Q4_K"),),
    },
    "gate_proj": _WIDE,
    "up_proj": _WIDE,
    "gate_up_proj": _WIDE,
    "down_proj": {
        **dict.fromkeys(_SMALLEST, (("first eighth", "Q2_K"),)),
        **dict.fromkeys(_SMALL, (("first eighth", "IQ3_S"),)),
        "q2_k": (("always", "Q3_K"),),
        "q2_k_s": (("first eighth", "Q4_K"),),
        "iq3_xxs": (("matrix", "IQ3_XXS"), ("first eighth", "Q4_K"), ("always", "Q3_K")),
        "q3_k_m": (("first sixteenth", "Q5_K"), ("always", "Q4_K")),
        "iq3_m": (("first eighth", "Q4_K"),),
        "q3_k_l": (("always", "Q5_K"),),
        "q4_k_m": (("more", "Q6_K"),),
        "q5_k_m": (("more", "Q6_K"),),
        "q4_k_s": (("first eighth", "Q5_K"),),
        "iq4_nl": (("matrix", "IQ4_NL"), ("first eighth", "Q5_K")),
        "iq4_xs": (("matrix", "IQ4_XS"), ("first eighth", "Q5_K")),
        "q4_0": (("first eighth with matrix", "Q4_1"),),
        "q5_0": (("first eighth with matrix", "Q5_1"),),
    },
    "embeddings": {
        **dict.fromkeys(_SMALLEST, (("always", "Q2_K"),)),
        **dict.fromkeys((*_SMALL, "iq3_xxs"), (("always", "IQ3_S"),)),
        "tq1_0": (("always", "Q4_K"),),
        "tq2_0": (("always", "Q4_K"),),
    },
}  # fmt: skip
# Type whose blocks do not divide the rows -> what is taken instead.
_NARROW: dict[str, str] = {
    "Q6_K": "Q8_0", "Q5_K": "Q5_1", "Q4_K": "Q5_0", "Q3_K": "Q4_0", "Q2_K": "Q4_0", "TQ1_0": "Q4_0", "TQ2_0": "Q4_0",
    **{name: "IQ4_NL" for name in BLOCKS if name.startswith("IQ") and name != "IQ4_NL"},
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a matrix stands. `role`: a key of `RULES`, or "output" (of tied models the embeddings). `grouped`: at least
    four queries share a key."""

    role: str
    columns: int
    layer: int = 0
    layers: int = 1
    grouped: bool = False


def type_of(file_type: str, place: Place, *, imatrix: bool) -> str:
    """The ggml type of a matrix in a file of a type ("q4_k_m"), quantized with an importance matrix or without."""
    usual = USUAL[file_type]
    if file_type in PLAIN:
        return usual
    if place.role == "output":
        return _fitting(_output(file_type, usual, place.columns), place.columns)
    rules = RULES.get(place.role, {}).get(file_type, ())
    return _fitting(next((name for when, name in rules if _holds(when, place, imatrix)), usual), place.columns)


def _output(file_type: str, usual: str, columns: int) -> str:
    if usual == "Q8_0" or columns % BLOCKS[usual][1]:
        return "Q8_0"
    return "Q5_K" if file_type in (*_SMALLEST, *_SMALL, "iq3_xxs") else "Q6_K"


def _holds(when: str, place: Place, imatrix: bool) -> bool:
    layer, layers = place.layer, place.layers
    eighth = layers // 8
    return {
        "always": True,
        "grouped": place.grouped,
        "matrix": imatrix,
        "first two": layer < 2,
        "first four": layer < 4,
        "first sixteenth": layer < layers // 16,
        "first eighth": layer < eighth,
        "first eighth with matrix": imatrix and layer < eighth,
        "middle": eighth <= layer < 7 * layers // 8,
        "more": layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2,
    }[when]


def _fitting(name: str, columns: int) -> str:
    if columns % BLOCKS[name][1]:
        name = _NARROW.get(name, name)
    return "F16" if columns % BLOCKS[name][1] else name
