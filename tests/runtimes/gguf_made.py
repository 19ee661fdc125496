"""A float32 GGUF of a tiny Llama checkpoint, written with the gguf package alone: it owes nothing to our exporter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def make_gguf(path: Path, checkpoint: Path, **overrides: Any) -> Path:
    """Write `checkpoint` (of `tests.models_made.make_llama`). `overrides`: "chat_template", "eos_token_id" and
    "tokenizer_model" ("gpt2", "llama")."""
    import gguf
    from safetensors.torch import load_file

    config = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(config["vocab_size"])
    _add_vocabulary(writer, checkpoint, config, overrides)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        data = tensor.float().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            halves = data.reshape(heads, 2, data.shape[0] // heads // 2, data.shape[1])
            data = halves.swapaxes(1, 2).reshape(data.shape)  # llama.cpp rotates neighbours, transformers halves
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: Any, checkpoint: Path, config: dict[str, Any], overrides: dict[str, Any]) -> None:
    import gguf

    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    vocabulary = dict(tokenizer["model"]["vocab"])
    special = {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]}
    vocabulary.update(special)
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in tokenizer["model"]["merges"]]
    model = overrides.get("tokenizer_model", "gpt2")
    writer.add_tokenizer_model(model)
    if model == "llama":
        writer.add_token_scores([0.0] * len(tokens))
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(overrides.get("eos_token_id", config["eos_token_id"]))
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    template = overrides.get("chat_template", (checkpoint / "chat_template.jinja").read_text())
    if template is not None:
        writer.add_chat_template(template)
