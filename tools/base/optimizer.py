"""The optimizer: Muon for the matrices, AdamW for the rest.

Muon learns these skills in clearly fewer tokens than AdamW, and tokens are what a CPU is short of. torch.optim.Muon
computes in bfloat16, which is far slower than float32 on the CPUs this has to run on, hence our own.
"""

import torch
from torch.optim.lr_scheduler import LambdaLR


def orthogonalise(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest (roughly) orthogonal matrix, by Newton-Schulz iteration, in float32."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for groups with `muon=True`, AdamW for the others."""

    def __init__(self, groups: list[dict]) -> None:
        super().__init__(
            groups, {"lr": 1e-3, "betas": (0.9, 0.95), "momentum": 0.95, "weight_decay": 0.0, "muon": False}
        )

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            update = self._muon if group["muon"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update(parameter, self.state[parameter], group)

    def _muon(self, parameter: torch.Tensor, state: dict, group: dict) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].mul_(group["momentum"]).add_(parameter.grad)
        update = orthogonalise(parameter.grad + group["momentum"] * momentum)
        parameter.add_(update, alpha=-group["lr"] * max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5)

    def _adam(self, parameter: torch.Tensor, state: dict, group: dict) -> None:
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        step, (first, second) = state["step"].item(), group["betas"]
        state["mean"].lerp_(parameter.grad, 1 - first)
        state["square"].mul_(second).addcmul_(parameter.grad, parameter.grad, value=1 - second)
        root = (state["square"] / (1 - second**step)).sqrt_().add_(1e-8)
        parameter.addcdiv_(state["mean"], root, value=-group["lr"] / (1 - first**step))


def build_optimizer(model: torch.nn.Module, plan) -> tuple[Muon, LambdaLR]:
    """The optimizer and its schedule: short warm-up, constant, then a linear decay to nearly nothing."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizer = Muon(
        [
            {"params": matrices, "lr": plan.matrix_rate, "muon": True, "weight_decay": 0.05},
            {"params": others, "lr": plan.learning_rate, "muon": False},
        ]
    )

    def rate(step: int) -> float:
        return max(0.01, min((step + 1) / plan.warmup, 1.0, (plan.steps - step) / plan.decay_steps))

    return optimizer, LambdaLR(optimizer, rate)
