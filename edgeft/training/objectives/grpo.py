"""Group relative policy optimisation (Shao et al. 2024, arXiv:2402.03300), as TRL's `GRPOTrainer` with one update per
answer: each prompt is answered several times, and each answer is made likelier by how far its reward
lies above its group's.

The answers are drawn inside the loss, from a generator seeded by the run's seed and the number of the micro-batch: a
resumed run draws the same ones. TRL's own trainer buffers generations between steps and cannot be resumed exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeft.models.tokenizer import load_tokenizer
from edgeft.training.objectives import Bound, Context
from edgeft.training.objectives.likelihood import token_logps
from edgeft.training.rewards import Rewards

if TYPE_CHECKING:
    import torch

_EPSILON = 1e-4  # added to the rewards' deviation, as TRL does


def bind(context: Context) -> Bound:
    import torch

    settings = context.settings
    tokenizer = load_tokenizer(context.base, chat_template=context.chat_template)
    rewards = Rewards.of(settings.rewards, context.files)
    figures: dict[str, list[float]] = {"reward": [], "answer_tokens": []}
    splits = (context.train, context.validation)

    def rewarded(batch: Mapping[str, torch.Tensor], answers: list[list[int]], rows: Any) -> list[float]:
        each = len(answers) // batch["rows"].numel()
        found = []
        for index, answer in enumerate(answers):
            row = int(batch["rows"][index // each])
            text = tokenizer.decode(answer, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            found.append(rewards(rows.prompts[row], text, rows.references[row]))
        return found

    def loss_sum(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        seed = (settings.seed << 32) + int(batch["number"])
        answers = draw(model, batch, context, count=settings.num_generations, seed=seed)
        values = rewarded(batch, answers, splits[0])
        figures["reward"] += values
        figures["answer_tokens"] += [float(len(answer)) for answer in answers]
        advantages = group_advantages(torch.tensor(values), settings.num_generations)
        whole = answered_again(batch, answers, settings.num_generations)
        return policy_loss(model, whole, advantages.to(context.device), settings) * len(answers)

    def items(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.tensor(batch["rows"].numel() * settings.num_generations)

    def judge(model: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, list[float]]:
        return {"reward": rewarded(batch, draw(model, batch, context, count=1), splits[1])}

    def held_out(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the rewards of the likeliest answers, `num_generations` times (as `items` counts): lower is better."""
        return -torch.tensor(judge(model, batch)["reward"]).sum() * settings.num_generations

    return Bound(loss_sum, items, judge, held_out, figures)


def group_advantages(rewards: torch.Tensor, group: int) -> torch.Tensor:
    """float32[N]: how far each reward lies above the mean of its `group` neighbours, in their deviations."""
    table = rewards.view(-1, group)
    return ((table - table.mean(dim=1, keepdim=True)) / (table.std(dim=1, keepdim=True) + _EPSILON)).view(-1)


def draw(
    model: Any, batch: Mapping[str, torch.Tensor], context: Context, *, count: int, seed: int | None = None
) -> list[list[int]]:
    """`count` answers to each prompt, in the order of the prompts, with the token that ends them; without a seed the
    likeliest one. The caller's random state is kept."""
    import torch
    from transformers import GenerationConfig

    settings = context.settings
    config = GenerationConfig(
        max_new_tokens=settings.max_completion_length,
        do_sample=seed is not None,
        temperature=settings.temperature if seed is not None else None,
        top_k=0 if seed is not None else None,
        top_p=1.0 if seed is not None else None,
        eos_token_id=list(context.stop_ids),
        pad_token_id=0,
    )
    ids = batch["prompt_ids"].repeat_interleave(count, dim=0)
    mask = batch["prompt_mask"].repeat_interleave(count, dim=0)
    was_training, was_cached = model.training, model.config.use_cache
    model.eval()
    devices = [torch.cuda.current_device()] if context.device == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        if seed is not None:
            torch.manual_seed(seed)
        written = model.generate(input_ids=ids, attention_mask=mask, generation_config=config, use_cache=True)
    model.train(was_training)
    model.config.use_cache = was_cached
    return [_ended(line, context.stop_ids) for line in written[:, ids.shape[1] :].tolist()]


def _ended(ids: list[int], stops: tuple[int, ...]) -> list[int]:
    """An answer up to the token that ends it, which belongs to it."""
    end = next((i for i, token in enumerate(ids) if token in stops), len(ids) - 1)
    return ids[: end + 1]


def answered_again(batch: Mapping[str, torch.Tensor], answers: list[list[int]], count: int) -> dict[str, Any]:
    """The prompts with the drawn answers behind them, as `forms.answered` has them."""
    import numpy as np

    from edgeft.training.forms import answered

    device = batch["prompt_ids"].device
    prompts = [
        ids[mask.bool()].cpu().numpy() for ids, mask in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)
    ]
    repeated = [prompt for prompt in prompts for _ in range(count)]
    whole = answered(repeated, [np.asarray(answer, np.int64) for answer in answers], 0)
    return {name: tensor.to(device) for name, tensor in whole.items()}


def policy_loss(model: Any, batch: Mapping[str, torch.Tensor], advantages: torch.Tensor, settings: Any) -> torch.Tensor:
    """Mean loss over answers. At the only update that answers get, the ratio to the drawing policy is 1: clipping has
    nothing to do."""
    import torch

    logps = token_logps(model, batch, batch["targets"], temperature=settings.temperature)
    mask = (batch["targets"] != -100).float()
    each = -(logps - logps.detach()).exp() * advantages[:, None]
    if settings.beta:
        with torch.no_grad(), model.disable_adapter():
            first = token_logps(model, batch, batch["targets"], temperature=settings.temperature)
        each = each + settings.beta * ((first - logps).exp() - (first - logps) - 1)
    if settings.grpo_loss == "grpo":
        return ((each * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()
    if settings.grpo_loss == "bnpo":
        return (each * mask).sum() / mask.sum().clamp(min=1)
    return (each * mask).sum() / (len(each) * settings.max_completion_length)
