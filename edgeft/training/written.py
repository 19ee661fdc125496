"""The adapter's files, the same bytes for the same values; or, of full fine-tuning, the model's.

What a start like PiSSA took out of the base, and an earlier phase that was folded into it, become part of the written
matrices (side by side, so the rank grows): whoever opens the adapter puts it on the original base. peft's own
`save_pretrained` writes module lists in the order of a set, which differs from process to process, and a card with
nothing in it. Used by `edgeft.training.run`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.errors import EdgeftError, InputError
from edgeft.models import grown
from edgeft.models.adapters import CONFIG, WEIGHTS
from edgeft.models.identity import TRAINING
from edgeft.training.adapter import Tuned, values
from edgeft.training.card import README, card

_MATRIX = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")
Part = tuple[float, Mapping[str, Any], Mapping[str, Any]]  # sign, tensors, config


def write(folder: Path, tuned: Tuned, *, base_ref: str, base: Path, training: Mapping[str, Any]) -> None:
    """adapter_model.safetensors, adapter_config.json, training.json and a card, of a base with added tokens its
    tokenizer; or a checkpoint folder instead of the first two. An `EdgeftError` when the values are not finite."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(values(tuned.model).items())}
    _check_finite(tensors)
    if tuned.is_adapter:
        _adapter(folder, tuned, tensors, base_ref)
        _tokenizer(folder, base)
    else:
        _model(folder, tuned.model, base)
    files.write_json(folder / TRAINING, training)
    files.write_text(folder / README, card(base, base_ref, training, adapter=tuned.is_adapter))


def _adapter(folder: Path, tuned: Tuned, tensors: Mapping[str, Any], base_ref: str) -> None:
    from safetensors.torch import load_file, save_file

    config = tuned.model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": base_ref, "inference_mode": True}
    parts: list[Part] = [(1.0, tensors, config)]
    if tuned.subtracted:
        parts.append((-1.0, tuned.subtracted, config))
    if tuned.folded is not None:
        parts.append((1.0, load_file(tuned.folded / WEIGHTS), files.read_json(tuned.folded / CONFIG)))
    written = dict(tensors)
    if len(parts) > 1:
        written, config = side_by_side(parts)
    save_file(dict(sorted(written.items())), folder / WEIGHTS, metadata={"format": "pt"})
    files.write_json(folder / CONFIG, {key: _plain(config[key]) for key in sorted(config)})


def _tokenizer(folder: Path, base: Path) -> None:
    """Beside the adapter, when tokens were added to its base: what other tools need to make that base again."""
    if not grown.tokens_of(base):
        return
    for name in grown.TOKENIZER:
        if (base / name).is_file():
            files.write_bytes(folder / name, (base / name).read_bytes())


def side_by_side(parts: Sequence[Part]) -> tuple[dict[str, Any], dict[str, Any]]:
    """One adapter that changes each weight by the sum of what the parts do: their matrices in a row, their scales in
    the second one, float32. Tensors that are no LoRA matrices are the first part's that has them."""
    import torch

    found: dict[str, dict[str, list[Any]]] = {}
    others: dict[str, Any] = {}
    for sign, tensors, config in parts:
        if config.get("use_dora"):
            raise InputError("a DoRA adapter cannot be summed with another", do="carry it on: previous: carry")
        for name, tensor in tensors.items():
            match = _MATRIX.match(name)
            if match is None:
                others.setdefault(name, tensor)
                continue
            scale = sign * _scale(config, match["module"]) if match["side"] == "B" else 1.0
            found.setdefault(match["module"], {"A": [], "B": []})[match["side"]].append(scale * tensor.float().cpu())
    ranks = {module: sum(a.shape[0] for a in sides["A"]) for module, sides in found.items()}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    unusual = {re.escape(module): rank for module, rank in sorted(ranks.items()) if rank != usual}
    written = dict(others)
    for module, sides in found.items():
        written[f"base_model.model.{module}.lora_A.weight"] = torch.cat(sides["A"], dim=0).contiguous()
        written[f"base_model.model.{module}.lora_B.weight"] = torch.cat(sides["B"], dim=1).contiguous()
    config = {
        **parts[0][2],
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": unusual,
        "alpha_pattern": unusual,
        "use_rslora": False,
        "init_lora_weights": True,
        "target_modules": sorted(ranks),
        "layers_to_transform": None,
        "layers_pattern": None,
    }
    return written, config


def _scale(config: Mapping[str, Any], module: str) -> float:
    rank = float(_pattern(config.get("rank_pattern"), module, config["r"]))
    alpha = float(_pattern(config.get("alpha_pattern"), module, config["lora_alpha"]))
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """As peft: the first pattern that matches the end of the module's name."""
    return next(
        (value for pattern, value in (patterns or {}).items() if re.match(rf"(.*\.)?({pattern})$", module)), default
    )


def _model(folder: Path, model: Any, base: Path) -> None:
    """A checkpoint folder in the base's dtype, with its tokenizer and template."""
    import shutil

    import torch

    dtype = getattr(torch, str(files.read_json(base / "config.json").get("dtype") or "float32"), torch.float32)
    model.to(dtype).save_pretrained(folder, safe_serialization=True)
    for path in sorted(base.iterdir()):
        is_companion = path.suffix in (".json", ".jinja", ".model", ".txt") and not path.name.endswith(".index.json")
        if is_companion and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def _check_finite(tensors: Mapping[str, Any]) -> None:
    import torch

    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise EdgeftError(
                f"the training diverged: {name!r} holds NaN or infinite values", do="lower learning_rate and run again"
            )


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(getattr(value, "value", value))
