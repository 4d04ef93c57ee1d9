"""AdamW on one vector that holds all weights of a network."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Optimizer(Protocol):
    """What a training needs of an optimizer, in the form of `torch.optim`."""

    defaults: dict[str, Any]
    param_groups: list[dict[str, Any]]

    def zero_grad(self) -> None: ...
    def step(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class FlatAdamW:
    """AdamW (Loshchilov & Hutter 2019) for a module on the CPU, whose parameters become views of one vector.

    A step on dozens of small tensors costs more than its arithmetic, and to make an optimizer of `torch.optim` imports
    what compiles networks, which takes four seconds.

    >>> layer = nn.Linear(2, 1)
    >>> optimizer, before = FlatAdamW(layer, rate=0.1), layer.weight.detach().clone()
    >>> layer(torch.ones(1, 2)).sum().backward()
    >>> optimizer.step()
    >>> torch.allclose(layer.weight, before - 0.1)
    True
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        rate: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        parameters = list(module.parameters())
        self._flat = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
        self._flat.grad = torch.zeros_like(self._flat)
        place = 0
        for parameter in parameters:
            end = place + parameter.numel()
            parameter.data = self._flat.data[place:end].view_as(parameter)
            parameter.grad = self._flat.grad[place:end].view_as(parameter)  # autograd adds to it in place
            place = end
        self.defaults: dict[str, Any] = {"lr": rate}
        self.param_groups: list[dict[str, Any]] = [{"lr": rate, "params": [self._flat]}]
        self._weight_decay, self._betas, self._epsilon = weight_decay, betas, epsilon
        self._mean, self._square = torch.zeros_like(self._flat.data), torch.zeros_like(self._flat.data)
        self._steps = 0

    def zero_grad(self) -> None:
        self._gradient().zero_()

    def step(self) -> None:
        rate, (first, second) = self.param_groups[0]["lr"], self._betas
        self._steps += 1
        gradient, weights = self._gradient(), self._flat.data
        self._mean.lerp_(gradient, 1 - first)
        self._square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = self._square.sqrt().div_((1 - second**self._steps) ** 0.5).add_(self._epsilon)
        weights.mul_(1 - rate * self._weight_decay)
        weights.addcdiv_(self._mean, scale.mul_(1 - first**self._steps), value=-rate)

    def state_dict(self) -> dict[str, Any]:
        moments = {"mean": self._mean, "square": self._square, "steps": torch.tensor(self._steps)}
        return {"state": {0: moments} if self._steps else {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        moments = state_dict["state"][0]
        self._mean.copy_(moments["mean"])
        self._square.copy_(moments["square"])
        self._steps = int(moments["steps"])

    def _gradient(self) -> Tensor:
        if self._flat.grad is None:
            raise RuntimeError("the gradient of the weights was taken away; expected it to be set to zero in place")
        return self._flat.grad
