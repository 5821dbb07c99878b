"""Every scorer keeps the promises of `visionft.testing.check_scorer`, and the check notices one that does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from visionft.inspection.coreset import coreset
from visionft.inspection.gaussian import Gaussian
from visionft.inspection.neighbours import Neighbours
from visionft.inspection.scorer import Scorer
from visionft.inspection.statistics import Statistics
from visionft.inspection.student import Student
from visionft.inspection.surroundings import Surroundings
from visionft.testing import check_scorer


@pytest.mark.parametrize("make", [
    lambda: Neighbours(share=1.0), lambda: Neighbours(share=1 / 6), Gaussian, lambda: Gaussian(dims=3),
    lambda: Gaussian(aligned=True, cells=3), lambda: Neighbours(aligned=True, share=1 / 6), lambda: Statistics(dims=4),
    Statistics, Student, Surroundings,
])  # fmt: skip
def test_it_keeps_its_promises(make: Callable[[], Scorer]):
    check_scorer(make)


class Forgetful(Gaussian):
    """Does not leave folds out."""

    def score(self, patches: Tensor, *, without: int | None = None) -> Tensor:
        return super().score(patches)


class Clamped(Neighbours):
    """Says 1 of whatever is far."""

    def score(self, patches: Tensor, *, without: int | None = None) -> Tensor:
        return super().score(patches, without=without).clamp_max(1.0)


class Leaky(Gaussian):
    """Scores images that are held out as any others."""

    def score_held(self, patches: Tensor, fold: int, *, whole: bool) -> Tensor:
        return self.score(patches, without=None if whole else fold)


class Holed(Neighbours):
    """Has one coreset of all patches, from which those of a fold are missing when it is left out."""

    def settle(self) -> None:
        self.bank, self.owner = (torch.cat(part) for part in zip(*self.held, strict=True))
        kept = coreset(self.bank, round(self.share * self.seen))
        self.bank, self.owner, self.held = self.bank[kept], self.owner[kept], []


class Careless(Statistics):
    """Once restored, leaves out a fold by leaving out nothing."""

    def score(self, patches: Tensor, *, without: int | None = None) -> Tensor:
        return super().score(patches, without=without if self.folds else None)


class Relative(Statistics):
    """Compares images with those beside them."""

    def score(self, patches: Tensor, *, without: int | None = None) -> Tensor:
        found = super().score(patches, without=without)
        return found - found.mean()


class Itself(Neighbours):
    """Is the scorer of every tile."""

    def part(self, tiles: int) -> Neighbours:
        return self


class Coarser(Gaussian):
    """Makes another one for tiles."""

    def part(self, tiles: int) -> Gaussian:
        return Gaussian(aligned=True, cells=1)


@pytest.mark.parametrize(("make", "says"), [
    (lambda: Itself(aligned=True, share=1.0), "not one like it"),
    (lambda: Coarser(aligned=True, cells=3), "only tile"),
    (Forgetful, "leaving a fold out"), (lambda: Holed(share=1 / 6), "leaving a fold out"),
    (lambda: Leaky(aligned=True, cells=3), "held out"), (lambda: Clamped(share=1.0), "never clamped"),
    (Relative, "depends on those beside it"), (Careless, "a fold that it does not know"),
])  # fmt: skip
def test_the_check_notices(make: Callable[[], Scorer], says: str):
    with pytest.raises(AssertionError, match=says):
        check_scorer(make)


def test_a_thinned_bank_answers_nearly_as_the_whole_and_costs_what_it_may():
    patches = torch.randn(60, 8, 8, 6, generator=torch.Generator().manual_seed(0)).cumsum(1)
    batches = [(part, torch.zeros(len(part))) for part in patches.split(4)]
    whole = Neighbours(share=0.1).fit(batches, 1)
    streamed = Neighbours(share=0.1, memory=1).fit(batches, 1)
    assert len(streamed.bank) == len(whole.bank) == 384
    asked = torch.randn(8, 8, 8, 6, generator=torch.Generator().manual_seed(1)).cumsum(1)
    one, other = whole.score(asked).flatten(), streamed.score(asked).flatten()
    assert float(torch.corrcoef(torch.stack([one, other]))[0, 1]) > 0.99
