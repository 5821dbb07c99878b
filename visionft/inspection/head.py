"""What do labelled defects teach? A logistic regression on what is known of an image's features as a whole."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from visionft.errors import DataError
from visionft.evaluation.probe import Probe, fit_probe

from . import statistics
from .scorer import Solved

STEEPEST = 30.0  # odds beyond exp(30) are not told apart: the exponential would end at infinity


class Head(Solved[Probe]):
    """The odds that an image is defective, by means, spreads and extremes of every feature over places.

    Unlike other scorers it needs defects, too: `take` is told which they are. The penalty is chosen once, by
    cross-validation over all images; each fold is then left out with that penalty.

    It learns from real defects only. Synthetic ones beside them (scars from elsewhere, blots, scratches, blurred spots,
    a tenth of the weight) help a head that is alone, with 10 defects from .775 to .837 on magnetic tiles and from .813
    to .821 on solar cells, and not the panel that it is part of: AUROC by -.0017 to +.0007 at the best weight, with 10
    to 100 defects. Taught by synthetic ones alone it takes away: -.0004 there, -.008 on cloth at a tenth of the weight.
    """

    learns_defects = True

    def begin(self, folds: int) -> None:
        """No image has been described."""
        super().begin(folds)
        self.held: list[tuple[Tensor, Tensor, Tensor]] = []

    def take(self, patches: Tensor, fold: Tensor, *, bad: bool = False) -> None:
        """Keep what describes each image: of good parts, or of defects, which belong to folds as good parts do."""
        self.held.append((described(patches), fold.to(torch.int16), torch.full_like(fold, bad, dtype=torch.bool)))

    def settle(self) -> None:
        """Weights are found when they are asked for."""
        self.rows, self.fold, self.bad = (torch.cat(part) for part in zip(*self.held, strict=True))
        self.held = []

    def solve(self, without: int | None) -> Probe:
        """The head of all images, or of all but a fold's. Raises DataError where none has a defect."""
        if not self.bad.any():
            raise DataError("a head judges by defects, and has learnt from none")
        penalty = None if without is None else self.fitted().l2
        kept = torch.ones_like(self.bad) if without is None else self.fold != without
        return fit_probe(self.rows[kept], self.bad[kept].long(), classes=2, l2=penalty)

    def score(self, patches: Tensor, *, without: int | None = None) -> Tensor:
        """B h w D -> B 1 1."""
        logits = self.fitted(without).logits(described(patches))
        return (logits[:, 1] - logits[:, 0]).clamp(-STEEPEST, STEEPEST).exp().view(-1, 1, 1)

    def state(self) -> dict[str, Tensor]:
        """Weights, 2 4D, and biases, 2, of good parts and of defects, and the penalty that they were found with."""
        probe = self.fitted()
        return {"weight": probe.weight, "bias": probe.bias, "l2": torch.tensor(probe.l2, dtype=torch.float64)}

    def restore(self, state: dict[str, Tensor]) -> Self:
        """Take over weights."""
        return self.keep(Probe(state["weight"], state["bias"], float(state["l2"])))


def described(patches: Tensor) -> Tensor:
    """B h w D -> B 4D: mean, standard deviation, largest and smallest of every feature over places."""
    flat = patches.flatten(1, 2)
    return torch.cat([statistics.described(patches), flat.amax(1), flat.amin(1)], 1)
