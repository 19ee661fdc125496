"""The words a recipe may hold: forms of data, metrics, fidelity figures, exports. Read by schema and gate parser.

A recipe is checked without importing the packages that carry the words out, so they stand here;
tests/stages/test_targets.py proves that they are the names in the tables of `edgeft.evals` and `edgeft.exporters`.
"""

from __future__ import annotations

from typing import Literal, get_args

# Forms of a dataset's rows; a recipe that names none has them found out.
DataType = Literal[
    "messages",
    "sharegpt",
    "alpaca",
    "prompt_completion",
    "text",
    "preference",
    "unpaired_preference",
    "prompts",
    "classification",
    "extraction",
]
DATA_TYPES: tuple[str, ...] = get_args(DataType)
# What happens to rows that a check finds: the run stops, they are left out and counted, or they stay and are counted.
Policy = Literal["error", "drop", "keep"]
# Chat templates that a recipe may name instead of a file.
TEMPLATES: tuple[str, ...] = (
    "chatml", "deepseek", "gemma", "llama3", "mistral", "phi3", "qwen3", "zephyr",
)  # fmt: skip
MergeBase = Literal["dequantized", "pristine", "auto"]

# What training minimises; those that put a head on the model instead of letting it answer.
Objective = Literal["sft", "cpt", "dpo", "kto", "orpo", "reward", "grpo", "classification", "distill"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)
HEADS: tuple[str, ...] = ("classification", "reward")
LABELLED = "classification"  # the objective, and the kind of suite, of labels that a head gives
# Objective that trains a head -> (the kind of suite that asks it, its metrics when the suite names none).
ASKED_OF_HEADS: dict[str, tuple[str, tuple[str, ...]]] = {
    "classification": ("classification", ("accuracy", "macro_f1")),
    "reward": ("pairs", ("pair_accuracy",)),
}
DpoLoss = Literal[
    "sigmoid",
    "sigmoid_norm",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
]
SMOOTHED: tuple[str, ...] = ("sigmoid", "robust", "exo_pair", "aot", "aot_unpaired")  # know label_smoothing
LoraInit = Literal["default", "gaussian", "orthogonal", "pissa", "olora", "loftq", "eva"]

# Metrics that a suite may ask for. `loss` (nats per token of the expected answer) is measured for every suite.
Metric = Literal[
    "exact_match",
    "normalised_match",
    "json_match",
    "json_valid",
    "json_fields",
    "tool_calls",
    "token_f1",
    "rouge1",
    "rouge2",
    "rougeL",
    "bleu",
    "chrf",
    "accuracy",
    "accuracy_norm",
    "pair_accuracy",
    "macro_f1",
    "regex",
    "numeric_match",
    "perplexity",
    "bits_per_byte",
    "repetition",
    "length",
    "length_ratio",
    "stopped",
    "runaway",
    "judge",
]
METRICS: tuple[str, ...] = get_args(Metric)
LOSS = "loss"
# Kind of suite -> its metrics when it names none, and the setting that a metric needs.
SuiteKind = Literal["generation", "choice", "pairs", "perplexity", "classification"]
KIND_METRICS: dict[str, tuple[str, ...]] = {
    "generation": ("exact_match",),
    "choice": ("accuracy",),
    "pairs": ("accuracy",),
    "perplexity": ("perplexity", "bits_per_byte"),
    "classification": ("accuracy", "macro_f1"),
}
# What gates may name of a task of the lm-eval harness: scores that its rows have.
HARNESS_METRICS: tuple[str, ...] = ("acc", "acc_norm", "exact_match", "f1", "em")
HARNESS_PREFIX = "lm-eval:"

# What `verify` measures of an exported file against the trained model, on the recipe's rows.
FIDELITY: tuple[str, ...] = (
    "token_ids_equal",
    "rendering_equal",
    "top1_agreement",
    "mean_kl",
    "p999_kl",
    "furthest_probability",
    "perplexity_ratio",
    "same_answers",
    "common_prefix",
)

# Those of them that are measured of a head for labels; the last one of nothing else.
FIDELITY_OF_LABELS: tuple[str, ...] = ("token_ids_equal", "top1_agreement", "mean_kl", "furthest_probability")

# What `probe` measures of every tune: how far it moved from the base, what it learnt by heart.
PROBE: tuple[str, ...] = (
    "drift.mean_kl",
    "drift.p999_kl",
    "drift.top1_agreement",
    "drift.perplexity_ratio",
    "memorised.train",
    "memorised.validation",
    "memorised.excess",
    "overfit.gap",
    "overfit.rise",
    "leakage.validation",
    "leakage.test",
)

# Times of the model or file that the line names; the limits of latencies are written with their unit.
LATENCY: tuple[str, ...] = ("p50_latency", "p95_latency")
SPEED: tuple[str, ...] = (*LATENCY, "tokens_per_second")

# Figures that are no share between 0 and 1.
UNBOUNDED: tuple[str, ...] = (
    LOSS,
    "bleu",
    "chrf",
    "perplexity",
    "bits_per_byte",
    "length",
    "length_ratio",
    "mean_kl",
    "p999_kl",
    "perplexity_ratio",
    "drift.mean_kl",
    "drift.p999_kl",
    "drift.perplexity_ratio",
    "overfit.gap",
    "overfit.rise",
    *SPEED,
)

# Export names: FORMAT-TYPE.
ExportName = Literal[
    "gguf-f32",
    "gguf-f16",
    "gguf-bf16",
    "gguf-q8_0",
    "gguf-q6_k",
    "gguf-q5_k_m",
    "gguf-q5_k_s",
    "gguf-q5_0",
    "gguf-q5_1",
    "gguf-q4_k_m",
    "gguf-q4_k_s",
    "gguf-q4_0",
    "gguf-q4_1",
    "gguf-iq4_nl",
    "gguf-iq4_xs",
    "gguf-q3_k_l",
    "gguf-q3_k_m",
    "gguf-q3_k_s",
    "gguf-iq3_m",
    "gguf-iq3_s",
    "gguf-iq3_xs",
    "gguf-iq3_xxs",
    "gguf-q2_k",
    "gguf-q2_k_s",
    "gguf-iq2_m",
    "gguf-iq2_s",
    "gguf-iq2_xs",
    "gguf-iq2_xxs",
    "gguf-iq1_m",
    "gguf-iq1_s",
    "gguf-tq2_0",
    "gguf-tq1_0",
    "gguf-mxfp4_moe",
    "lora-f32",
    "lora-f16",
    "lora-bf16",
    "lora-q8_0",
    "onnx-fp32",
    "onnx-fp16",
    "onnx-bf16",
    "onnx-int8",
    "onnx-int4",
]
EXPORTS: tuple[str, ...] = get_args(ExportName)
ONNX_OF_LABELS: tuple[str, ...] = ("onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-int4")  # ship a head for labels
# GGUF exports that are not quantized, and those that cannot be made without an importance matrix.
PLAIN_GGUF: tuple[str, ...] = ("gguf-f32", "gguf-f16", "gguf-bf16")
NEED_IMATRIX: tuple[str, ...] = (
    "gguf-iq3_xs", "gguf-iq3_xxs", "gguf-q2_k_s", "gguf-iq2_m", "gguf-iq2_s", "gguf-iq2_xs", "gguf-iq2_xxs",
    "gguf-iq1_m", "gguf-iq1_s",
)  # fmt: skip

# Types of single tensors in a GGUF file, and those of them that need an importance matrix.
TensorType = Literal[
    "f32",
    "f16",
    "bf16",
    "q8_0",
    "q6_k",
    "q5_k",
    "q5_0",
    "q5_1",
    "q4_k",
    "q4_0",
    "q4_1",
    "iq4_nl",
    "iq4_xs",
    "mxfp4",
    "q3_k",
    "iq3_s",
    "iq3_xxs",
    "q2_k",
    "iq2_s",
    "iq2_xs",
    "iq2_xxs",
    "iq1_m",
    "iq1_s",
    "tq2_0",
    "tq1_0",
]
TENSOR_TYPES: tuple[str, ...] = get_args(TensorType)
TENSORS_NEED_IMATRIX: tuple[str, ...] = ("iq3_xxs", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s")

# Where the rows of a suite may come from, besides a path: a split of the data section, or rows shipped with edgeft.
SPLITS: tuple[str, ...] = ("validation", "test")
BUILTIN_ROWS: tuple[str, ...] = ("builtin:general", "builtin:text")
# Their families, which gates may name: general/arithmetic.exact_match.
BUILTIN_FAMILIES: dict[str, tuple[str, ...]] = {
    "builtin:general": ("arithmetic", "extraction", "knowledge", "ordering", "reading", "rewriting"),
    "builtin:text": ("advice", "code", "explaining", "languages", "prose", "talk"),
}

# What other tools call a value -> what it is here.
VALUES: dict[str, str] = {
    "adamw": "adamw_torch",
    "adamw_torch_fused": "adamw_torch",
    "adamw_hf": "adamw_torch",
    "adamw_bnb_8bit": "adamw_8bit",
    "paged_adamw": "paged_adamw_32bit",
    "chatml": "messages",
    "chat_template": "messages",
    "conversational": "messages",
    "openai": "messages",
    "exact": "exact_match",
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "all": "all-linear",
    "all_linear": "all-linear",
    "original": "pristine",
    "q8_0": "gguf-q8_0",
    "q4_k_m": "gguf-q4_k_m",
    "f16": "gguf-f16",
}
