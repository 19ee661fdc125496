"""The names a recipe may hold: suites' rows, metrics, fidelity figures, exports. Read by the schema and gate parser.

A recipe is checked without importing the packages that carry the names out, so they stand here;
tests/stages/test_targets.py proves that they are the names in the tables of `edgeft.evals` and `edgeft.exporters`.
"""

from __future__ import annotations

# Metrics that a suite may ask for. `loss` (nats per token of the expected answer) is measured for every suite.
METRICS: tuple[str, ...] = ("exact_match",)
LOSS = "loss"

# What `verify` measures of an exported file against the trained model, on the recipe's rows.
FIDELITY: tuple[str, ...] = ("token_ids_equal", "rendering_equal", "top1_agreement", "mean_kl")

# Export names: FORMAT-TYPE.
EXPORTS: tuple[str, ...] = ("gguf-f16", "gguf-q8_0", "gguf-q4_k_m", "onnx-fp32", "onnx-int4")

# Where the rows of a suite may come from, besides a path: a split of the data section, or rows shipped with edgeft.
SPLITS: tuple[str, ...] = ("validation", "test")
BUILTIN_ROWS: tuple[str, ...] = ("builtin:general",)
