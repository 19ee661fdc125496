"""The folder that ships: bf16 weights, configuration and tokenizer, in the form transformers 4 and 5 both read."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from tools.base import tokenizer as chatml


def sha256(path: Path) -> str:
    """The digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model; the tied head is not stored twice."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    config = model.config
    end, pad = config.eos_token_id, config.pad_token_id
    theta = 10000.0
    _write(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": None,
            "dtype": "bfloat16",
            "eos_token_id": end,
            "head_dim": config.head_dim,
            "hidden_act": "silu",
            "hidden_size": config.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": config.intermediate_size,
            "max_position_embeddings": config.max_position_embeddings,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": config.num_attention_heads,
            "num_hidden_layers": config.num_hidden_layers,
            "num_key_value_heads": config.num_key_value_heads,
            "pad_token_id": pad,
            "rms_norm_eps": config.rms_norm_eps,
            "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
            "rope_theta": theta,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "vocab_size": config.vocab_size,
        },
    )
    _write(folder / "generation_config.json", {"do_sample": False, "eos_token_id": end, "pad_token_id": pad})
    chatml.save(tokenizer, folder, config.max_position_embeddings)
