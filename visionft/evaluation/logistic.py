"""Multinomial logistic regression with a ridge: near its minimum by L-BFGS in float32, then to the bottom.

To the bottom, the gradient is computed in float64 and the curvature in float32, as in iterative refinement: the answer
is as accurate as the gradient, and nearly all of the work is done in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EVALUATIONS, STEPS, PRODUCTS = 500, 20, 200  # at most: of L-BFGS, of Newton's method, of the curvature in one of those
FORCING = 1e-2  # share of the gradient that a Newton step may leave


@dataclass
class Logistic:
    """Weights that minimise the mean of cross-entropy(W z + b, label) + l2 / 2 ||W||²."""

    weight: Tensor  # C D
    bias: Tensor  # C

    @classmethod
    def zero(cls, classes: int, z: Tensor) -> Logistic:
        """All weights zero."""
        return cls(z.new_zeros(classes, z.shape[1]), z.new_zeros(classes))

    @classmethod
    def mean(cls, of: list[Logistic]) -> Logistic:
        """The mean of some, which is near to what all their samples ask for."""
        return cls(torch.stack([one.weight for one in of]).mean(0), torch.stack([one.bias for one in of]).mean(0))

    def copy(self) -> Logistic:
        """The same, to go on from."""
        return Logistic(self.weight.clone(), self.bias.clone())

    def log_p(self, z: Tensor) -> Tensor:
        """Samples N D -> log-probabilities C N: products with few rows are faster than those with few columns."""
        return torch.addmm(self.bias[:, None], self.weight, z.T).log_softmax(dim=0)

    def descend(self, z: Tensor, labels: Tensor, l2: float, tolerance: float) -> None:
        """Go down to where no component of the gradient exceeds `tolerance`, by L-BFGS; samples N D, labels N.

        In float32 that can be 1e-4: near the bottom, the line search loses sight of the way down.
        """
        truth = F.one_hot(labels, len(self.bias)).T.to(z)
        optimizer = torch.optim.LBFGS(
            [self.weight, self.bias],
            max_iter=EVALUATIONS,
            history_size=20,
            tolerance_grad=tolerance,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def objective() -> float:  # the gradient by hand: it works under inference_mode, too
            log_p = self.log_p(z)
            self.weight.grad, self.bias.grad = self._gradient(z, log_p.exp() - truth, l2)
            return float(self._loss(log_p, truth, l2))

        optimizer.step(objective)  # torch has not annotated it

    def settle(self, z: Tensor, labels: Tensor, l2: float, tolerance: float) -> None:
        """From nearby, by Newton's method, to where no component of the float64 gradient exceeds `tolerance`.

        A step that does not lower the loss is halved. The weights are float64 from here on.
        """
        exact, truth = z.double(), F.one_hot(labels, len(self.bias)).T.double()
        self.weight, self.bias = self.weight.double(), self.bias.double()
        for _ in range(STEPS):
            log_p = self.log_p(exact)
            gradient = self._gradient(exact, log_p.exp() - truth, l2)
            if max(float(part.abs().max()) for part in gradient) <= tolerance:
                break
            now, way = self._loss(log_p, truth, l2), _newton(gradient, z, log_p.exp().float(), l2)
            for _ in range(STEPS):
                there = Logistic(self.weight + way.weight, self.bias + way.bias)
                if there._loss(there.log_p(exact), truth, l2) <= now:
                    break
                way = Logistic(way.weight / 2, way.bias / 2)
            self.weight, self.bias = there.weight, there.bias

    def _gradient(self, z: Tensor, excess: Tensor, l2: float) -> tuple[Tensor, Tensor]:
        excess = excess / len(z)
        return torch.addmm(self.weight, excess, z, beta=l2), excess.sum(dim=1)

    def _loss(self, log_p: Tensor, truth: Tensor, l2: float) -> Tensor:
        return l2 / 2 * self.weight.square().sum() - (log_p * truth).sum() / log_p.shape[1]


def _newton(gradient: tuple[Tensor, Tensor], z: Tensor, p: Tensor, l2: float) -> Logistic:
    """What to add to the weights: minus the inverse curvature times the gradient, by conjugate gradients."""

    def curved(way: Logistic) -> Logistic:
        moved = torch.addmm(way.bias[:, None], way.weight, z.T)
        return Logistic(*way._gradient(z, p * (moved - (p * moved).sum(dim=0)), l2))

    left = Logistic(-gradient[0].float(), -gradient[1].float())
    step, way, size = Logistic(torch.zeros_like(left.weight), torch.zeros_like(left.bias)), left, _dot(left, left)
    enough = FORCING**2 * size
    for _ in range(PRODUCTS):
        bent = curved(way)
        far = size / _dot(way, bent)
        step = Logistic(step.weight + far * way.weight, step.bias + far * way.bias)
        left = Logistic(left.weight - far * bent.weight, left.bias - far * bent.bias)
        before, size = size, _dot(left, left)
        if size <= enough:
            break
        way = Logistic(left.weight + size / before * way.weight, left.bias + size / before * way.bias)
    return step


def _dot(a: Logistic, b: Logistic) -> Tensor:
    return (a.weight * b.weight).sum() + (a.bias * b.bias).sum()
