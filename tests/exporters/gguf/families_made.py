"""A tiny random model of every family that edgeft writes as GGUF, for the tests of the families.

`MODELS` is the table: a name -> configuration class, model class, settings. Several rows for a family are its variants.
Weights are wide enough for clear winners; norms and biases are random too, so that none can be taken for another.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.models_made import SPECIALS, make_tokenizer

# What all share, unless a row says otherwise. 256 is what K-quants need.
COMMON: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.08,
    "tie_word_embeddings": False,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32, "tie_word_embeddings": True}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + number / 40 for number in range(32)],
    "long_factor": [1.0 + number / 4 for number in range(32)],
}


@dataclass(frozen=True)
class Made:
    """`config` and `model` name classes of transformers; `settings` go to the first, over `COMMON`. `context`: tokens
    that llama.cpp is opened with. `unconverted`: why llama.cpp's converter cannot convert it, when it cannot. `older`:
    keys of config.json as transformers wrote it before its version 5 (None: absent)."""

    config: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    context: int = 256
    unconverted: str = ""
    older: dict[str, Any] = field(default_factory=dict)

    @property
    def gelu(self) -> bool:
        """llama.cpp computes this activation from a table of 16-bit floats."""
        return self.config.startswith(("GPT2", "Gemma", "Starcoder"))


MODELS: dict[str, Made] = {
    "llama": Made("LlamaConfig", "LlamaForCausalLM"),
    "llama biases": Made("LlamaConfig", "LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "llama yarn": Made("LlamaConfig", "LlamaForCausalLM", {"rope_parameters": YARN}),
    "mistral": Made("MistralConfig", "MistralForCausalLM", {"head_dim": 32, "sliding_window": None}),
    "mistral older": Made(
        "MistralConfig",
        "MistralForCausalLM",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "sliding_window": 4096},
        older={"rope_theta": 1e6, "head_dim": None},
    ),
    "qwen2": Made("Qwen2Config", "Qwen2ForCausalLM"),
    "qwen2 tied, yarn": Made("Qwen2Config", "Qwen2ForCausalLM", {"tie_word_embeddings": True, "rope_parameters": YARN}),
    "qwen2 older": Made(
        "Qwen2Config",
        "Qwen2ForCausalLM",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        older={"rope_theta": 1e6, "use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 21},
    ),
    "qwen3": Made("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 32, "tie_word_embeddings": True}),
    "qwen3moe": Made(
        "Qwen3MoeConfig",
        "Qwen3MoeForCausalLM",
        {
            "head_dim": 32,
            "num_experts": 12,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 256,
            "norm_topk_prob": True,
        },
    ),
    "qwen2moe": Made(
        "Qwen2MoeConfig",
        "Qwen2MoeForCausalLM",
        {
            "num_experts": 12,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 256,
            "shared_expert_intermediate_size": 384,
        },
    ),
    "mixtral": Made("MixtralConfig", "MixtralForCausalLM", {"num_local_experts": 6, "sliding_window": None}),
    "hunyuan": Made("HunYuanDenseV1Config", "HunYuanDenseV1ForCausalLM", {"head_dim": 32, "eod_token_id": None}),
    "hunyuan alpha": Made(
        "HunYuanDenseV1Config",
        "HunYuanDenseV1ForCausalLM",
        {
            "head_dim": 64,
            "eod_token_id": None,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 50.0, "factor": 1.0},
        },
        unconverted="it writes a context of 256k instead of the config's, and asks for 32k or 256k there",
    ),
    "cohere2": Made(
        "Cohere2Config",
        "Cohere2ForCausalLM",
        {"num_hidden_layers": 5, "sliding_window": 8, "logit_scale": 0.25, "tie_word_embeddings": True},
        unconverted="it asks for rotary_pct, which transformers 5 does not write",
    ),
    "cohere2 older": Made(
        "Cohere2Config",
        "Cohere2ForCausalLM",
        {"num_hidden_layers": 5, "sliding_window": 8, "logit_scale": 0.25, "tie_word_embeddings": True},
        older={"rope_theta": 10000.0, "rotary_pct": 1.0, "sliding_window_pattern": 4, "head_dim": None},
    ),
    "gemma2": Made(
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {**GEMMA, "sliding_window": 8, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 15.0},
    ),
    "gemma3": Made("Gemma3TextConfig", "Gemma3ForCausalLM", {**GEMMA, "sliding_window": 8, "num_hidden_layers": 7}),
    "gemma3 linear": Made(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {
            **GEMMA,
            "sliding_window": 8,
            "num_hidden_layers": 7,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "gemma3 older": Made(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {
            **GEMMA,
            "sliding_window": 8,
            "num_hidden_layers": 7,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
            },
        },
        older={
            "rope_theta": 1e6,
            "rope_local_base_freq": 2e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "sliding_window_pattern": 6,
        },
    ),
    "phi3": Made("Phi3Config", "Phi3ForCausalLM"),
    "phi3 long": Made(  # a text longer than the original context: the long factors
        "Phi3Config",
        "Phi3ForCausalLM",
        {"rope_parameters": LONG, "max_position_embeddings": 1024, "original_max_position_embeddings": 16},
    ),
    "phi3 older": Made(
        "Phi3Config",
        "Phi3ForCausalLM",
        {"rope_parameters": LONG, "max_position_embeddings": 1024, "original_max_position_embeddings": 256},
        older={
            "rope_theta": 10000.0,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": LONG["short_factor"],
                "long_factor": LONG["long_factor"],
            },
        },
    ),
    "phi4 mini": Made(
        "Phi3Config",
        "Phi3ForCausalLM",
        {
            "tie_word_embeddings": True,
            "rope_parameters": {
                **LONG,
                "partial_rotary_factor": 0.75,
                "short_factor": LONG["short_factor"][:24],
                "long_factor": LONG["long_factor"][:24],
            },
            "max_position_embeddings": 1024,
            "original_max_position_embeddings": 256,
        },
    ),
    "smollm3": Made("SmolLM3Config", "SmolLM3ForCausalLM", {"num_hidden_layers": 5, "tie_word_embeddings": True}),
    "granite": Made(
        "GraniteConfig",
        "GraniteForCausalLM",
        {
            "attention_multiplier": 0.03,
            "embedding_multiplier": 6.0,
            "residual_multiplier": 0.4,
            "logits_scaling": 4.0,
            "tie_word_embeddings": True,
        },
    ),
    "granitemoe": Made(
        "GraniteMoeConfig",
        "GraniteMoeForCausalLM",
        {
            "attention_multiplier": 0.03,
            "embedding_multiplier": 6.0,
            "residual_multiplier": 0.4,
            "logits_scaling": 4.0,
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
        },
    ),
    "granite 4": Made(
        "GraniteMoeHybridConfig",
        "GraniteMoeHybridForCausalLM",
        {
            "attention_multiplier": 0.03,
            "embedding_multiplier": 6.0,
            "residual_multiplier": 0.4,
            "logits_scaling": 4.0,
            "shared_intermediate_size": 512,
            "intermediate_size": 100,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "layer_types": ["attention", "attention"],
            "position_embedding_type": "rope",
            "mamba_n_heads": 8,
        },
        unconverted="it looks for layers called attention, which transformers 5 calls full_attention",
    ),
    "olmo2": Made("Olmo2Config", "Olmo2ForCausalLM"),
    "stablelm": Made("StableLmConfig", "StableLmForCausalLM", {"use_qkv_bias": True}),
    "stablelm 12b": Made(
        "StableLmConfig",
        "StableLmForCausalLM",
        {"qk_layernorm": True, "use_parallel_residual": True},
        older={"rope_theta": 10000.0, "partial_rotary_factor": 0.25},
        unconverted="it stacks the norms of q and k in a generator that is never run, and stops",
    ),
    "gemma": Made("GemmaConfig", "GemmaForCausalLM", {"head_dim": 32, "tie_word_embeddings": True}),
    "olmo3": Made(
        "Olmo3Config",
        "Olmo3ForCausalLM",
        {
            "sliding_window": 8,
            "num_hidden_layers": 5,
            "rope_parameters": {
                "full_attention": {**YARN, "rope_theta": 5e5},
                "sliding_attention": {"rope_type": "default"},
            },
        },
    ),
    "seed_oss": Made("SeedOssConfig", "SeedOssForCausalLM", {"head_dim": 32}),
    "glm4": Made("Glm4Config", "Glm4ForCausalLM", {"head_dim": 64}),
    "exaone4": Made(
        "Exaone4Config", "Exaone4ForCausalLM", {"sliding_window": None, "layer_types": ["full_attention"] * 2}
    ),
    "exaone4 llama3": Made(
        "Exaone4Config",
        "Exaone4ForCausalLM",
        {"sliding_window": None, "layer_types": ["full_attention"] * 2, "rope_parameters": LLAMA3},
    ),
    "exaone4 32b": Made(
        "Exaone4Config",
        "Exaone4ForCausalLM",
        {"sliding_window": 8, "num_hidden_layers": 64, "hidden_size": 64, "intermediate_size": 64},
    ),
    "ernie4_5": Made("Ernie4_5Config", "Ernie4_5ForCausalLM", {"head_dim": 32, "tie_word_embeddings": True}),
    "starcoder2": Made("Starcoder2Config", "Starcoder2ForCausalLM", {"tie_word_embeddings": True}),
    "qwen3_5": Made(
        "Qwen3_5TextConfig",
        "Qwen3_5ForCausalLM",
        {
            "num_hidden_layers": 5,
            "head_dim": 128,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 32,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 6,
        },
    ),
    "lfm2": Made(
        "Lfm2Config",
        "Lfm2ForCausalLM",
        {"layer_types": ["conv", "full_attention", "conv"], "num_hidden_layers": 3, "tie_word_embeddings": True},
    ),
    "lfm2 older": Made(
        "Lfm2Config",
        "Lfm2ForCausalLM",
        {"layer_types": ["conv", "full_attention", "conv"], "num_hidden_layers": 3, "tie_word_embeddings": True},
        older={
            "rope_theta": 1000000.0,
            "full_attn_idxs": [1],
            "block_ff_dim": 512,
            "intermediate_size": None,
            "tie_embedding": True,
            "tie_word_embeddings": None,
        },
    ),
    "arcee": Made("ArceeConfig", "ArceeForCausalLM"),
    "gpt2": Made(
        "GPT2Config",
        "GPT2LMHeadModel",
        {"n_embd": 256, "n_layer": 2, "n_head": 4, "n_positions": 512, "n_ctx": 512, "tie_word_embeddings": True},
    ),
}


def make_model(folder: Path, name: str, *, dtype: str = "bfloat16", **changes: Any) -> Path:
    """The model of a row, with tokenizer and template, in `folder`; `changes` go over the row's settings."""
    import torch
    import transformers

    row = MODELS[name]
    tokens = make_tokenizer(folder)
    common = {} if row.model.startswith("GPT2") else COMMON
    config = getattr(transformers, row.config)(
        **{**common, "initializer_range": 0.08, **row.settings, **changes},
        vocab_size=tokens,
        bos_token_id=None,
        eos_token_id=tokens - 1,
        pad_token_id=tokens - len(SPECIALS),
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        model = getattr(transformers, row.model)(config)
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.2 * torch.randn(parameter.shape)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    if row.older:
        path = folder / "config.json"
        written = {**json.loads(path.read_text()), "rope_parameters": None, "layer_types": None, **row.older}
        path.write_text(json.dumps({key: value for key, value in written.items() if value is not None}))
    return folder
