"""The optimizers: AdamW for everything, or Muon for a small model's matrices, which needs about a third fewer steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from .recipe import Schedule

BETAS = (0.9, 0.98)
"""AdamW's decay of the first and the second moment."""

ITERATIONS = 5
"""Newton-Schulz iterations; five bring the singular values near one."""

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of an iteration, by Keller Jordan (2024, "Muon")."""

MATCH = 0.2
"""Root mean square of an update per unit of learning rate, which makes AdamW's learning rates and weight decays fit
(Liu et al. 2025, "Muon is scalable for LLM training")."""


OUTSIDE = 0.3
"""Learning rate of embeddings and norms beside Muon, as a share of the matrices'."""


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal: every direction of a matrix learns equally fast.

    Torch's own computes in bfloat16, which a CPU without AVX-512 emulates at a tenth of the speed; this one keeps the
    parameters' type. Takes matrices alone.
    """

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float = 0.01, momentum: float = 0.95
    ) -> None:
        """`lr` and `weight_decay` mean what they mean to AdamW."""
        super().__init__(list(parameters), {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override] # noqa: ARG002
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        gradient = parameter.grad
        assert gradient is not None
        mean = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        direction = orthogonal(gradient.lerp(mean, group["momentum"]))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction, alpha=-group["lr"] * MATCH * math.sqrt(max(parameter.shape)))


class Both(torch.optim.Optimizer):
    """Two optimizers that step together; their groups and states stand one behind the other."""

    def __init__(self, first: torch.optim.Optimizer, second: torch.optim.Optimizer) -> None:
        """`first` and `second` hold different parameters."""
        self.parts = (first, second)
        self.param_groups = [*first.param_groups, *second.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override] # noqa: ARG002
        """Step both."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of both."""
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The state of both, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest matrix to `matrix` whose singular values are about one."""
    wide: torch.Tensor = matrix.mT if matrix.size(0) > matrix.size(1) else matrix
    wide = wide / (wide.norm() + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        square = wide @ wide.mT
        wide = a * wide + (b * square + c * square @ square) @ wide
    return wide.mT if matrix.size(0) > matrix.size(1) else wide


def make_optimizer(parameters: dict[str, torch.nn.Parameter], schedule: Schedule) -> torch.optim.Optimizer:
    """The optimizer that `schedule` names, over named parameters; embeddings and vectors are AdamW's in any case."""
    inner = {name for name, value in parameters.items() if value.ndim == 2 and "embed" not in name}
    vectors = [value for value in parameters.values() if value.ndim < 2]
    matrices = [value for name, value in parameters.items() if value.ndim >= 2 and name not in inner]
    hidden = [parameters[name] for name in parameters if name in inner]
    if schedule.optimizer == "adamw":
        matrices, hidden = [*matrices, *hidden], []
    share = 1.0 if schedule.optimizer == "adamw" else OUTSIDE
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": schedule.weight_decay, "share": share},
        {"params": vectors, "weight_decay": 0.0, "share": share},
    ]
    given = [group for group in groups if group["params"]]
    adamw = torch.optim.AdamW(given, lr=schedule.learning_rate, betas=BETAS, fused=True)
    if schedule.optimizer == "adamw":
        return adamw
    return Both(Muon(hidden, schedule.learning_rate, schedule.weight_decay), adamw)
