"""Random tiny checkpoints for tests, made in a second or two: real architecture, real tokenizer files, no meaning.

    from tests.models_made import make_llama, make_adapter, make_tokenizer

`tests/conftest.py` offers `tiny_llama` and `tiny_adapter` (session fixtures: read them, never write into them).
The weights depend on `seed` only, so two calls with the same arguments give the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIALS = (END_OF_TEXT, START, END)
# Qwen2's pre-tokenizer pattern: llama.cpp knows it as "qwen2".
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = """{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
TEXTS = (
    "system user assistant You are a helpful assistant that answers with one JSON object.",
    "Turn the kitchen light on. Turn the bedroom light off. Set the heating to 21 degrees.",
    '{"device": "light", "room": "kitchen", "action": "on", "value": 20}',
    "What is 3 plus 4? The answer is 7. Which is larger, 12 or 9? 12 is larger than 9.",
    "Where does Anna live? Anna lives in Oslo. Der Zug fährt um acht. Привет, мир! 你好，世界。",
)


def make_tokenizer(folder: Path, *, vocab_size: int = 320, model_max_length: int = 512) -> int:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja (byte-level BPE, ChatML); returns the number
    of tokens, `SPECIALS` last, as in Qwen2. 259 is the least: 256 bytes and three specials."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "additional_special_tokens": [START, END],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "model_max_length": model_max_length,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
    }
    _write_json(folder / "tokenizer_config.json", config)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return int(tokenizer.get_vocab_size())


def make_llama(
    folder: Path,
    *,
    hidden: int = 256,
    intermediate: int = 512,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 64,
    vocab_size: int = 320,
    tied: bool = True,
    dtype: str = "bfloat16",
    seed: int = 0,
    shard_size: str = "5GB",
    **config: Any,
) -> Path:
    """A random LlamaForCausalLM with tokenizer, template and generation config in `folder`. Further keywords go to
    `LlamaConfig`. The weights are wide enough (std 0.08) for the logits to have clear winners."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokens = make_tokenizer(folder, vocab_size=vocab_size)
    settings = LlamaConfig(
        vocab_size=tokens,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=tokens - 1,
        pad_token_id=tokens - len(SPECIALS),
        **config,
    )
    return save_random(folder, LlamaForCausalLM, settings, dtype=dtype, seed=seed, shard_size=shard_size)


def save_random(
    folder: Path, model_class: Any, config: Any, *, dtype: str = "bfloat16", seed: int = 0, shard_size: str = "5GB"
) -> Path:
    """Save `model_class(config)` with random weights of `seed` as safetensors; the caller's random state is kept."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config).to(getattr(torch, dtype))
    if hasattr(model, "generation_config"):  # an encoder has none
        model.generation_config.eos_token_id = config.eos_token_id
        model.generation_config.pad_token_id = config.pad_token_id
    model.save_pretrained(folder, max_shard_size=shard_size)
    return folder


def make_adapter(
    folder: Path,
    base: Path,
    *,
    r: int = 8,
    alpha: float = 16,
    targets: tuple[str, ...] | str = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    seed: int = 1,
    strength: float = 0.05,
    **config: Any,
) -> Path:
    """A peft LoRA adapter of `base` whose A and B are both random (std `strength`), so that it changes the model.
    Further keywords go to `LoraConfig`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = LoraConfig(
        r=r,
        lora_alpha=alpha,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
        **config,
    )
    tuned = get_peft_model(model, settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad and "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * strength)
    tuned.save_pretrained(folder)
    return folder


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
