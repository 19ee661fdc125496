"""A model's config as onnxruntime-genai's builder reads it: the words it knows for what transformers 5 says otherwise.

Called by `builder` for both ways. What the builder would compute wrongly is refused.
"""

from __future__ import annotations

from typing import Any

from edgeft.errors import ModelError


def fit(config: Any) -> None:
    """Add to a transformers config what the builder looks for. Raises `ModelError` for what it would get wrong."""
    rope = getattr(config, "rope_parameters", None)
    if not isinstance(rope, dict):
        return
    if rope.get("rope_type") == "yarn":
        raise ModelError(
            "its rotation is of the kind yarn, which onnxruntime-genai's builder computes otherwise than transformers",
            do="export GGUF instead",
        )
    if "full_attention" in rope:  # Gemma 3: a rotation for each kind of attention
        full, sliding = rope["full_attention"], rope["sliding_attention"]
        if full.get("rope_type", "default") != "default" or sliding.get("rope_type", "default") != "default":
            raise ModelError(
                f"its rotations are scaled ({full.get('rope_type')}); onnxruntime-genai's builder scales those of the "
                "sliding attention too",
                do="export GGUF instead",
            )
        config.rope_local_base_freq = sliding["rope_theta"]
        config.rope_parameters = {"rope_type": "default", **full}
    if config.model_type == "phi3":
        rope.setdefault("type", rope.get("rope_type", "default"))
        if rope["type"] == "default":  # the builder tells long models by a context longer than the original one
            config.original_max_position_embeddings = config.max_position_embeddings
