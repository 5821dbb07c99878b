"""SimSiam is a cosine between predictions and projections, of which only the predictions learn."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity

B = 5


@pytest.fixture
def model(make_objective) -> Any:
    return make_objective("simsiam").eval()


def projections(model: Any, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [model.head(model.backbone(v)) for v in batch["views"].unbind(1)]


def given(model: Any, z: torch.Tensor, predictor: Any) -> float:
    """The loss if these were the projections, B 2 D, and this what predicts."""
    model.embed, model.predictor = lambda _: z, predictor
    return float(model({"views": z})["loss"])


class Times(torch.nn.Module):
    """Multiplies."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.factor * z


@torch.no_grad()
def test_simsiam_is_the_papers_symmetric_cosine_written_out(model, batch):
    first, second = projections(model, batch)
    guesses = [model.predictor(z).double().tolist() for z in (first, second)]
    targets = [z.double().tolist() for z in (second, first)]
    total = 0.0
    for guess, target in zip(guesses, targets, strict=True):
        for p, z in zip(guess, target, strict=True):
            dot = sum(a * b for a, b in zip(p, z, strict=True))
            total += -dot / math.hypot(*p) / math.hypot(*z) / 2
    assert float(model(batch)["loss"]) == pytest.approx(total / B, rel=1e-4)


@torch.no_grad()
def test_simsiam_is_lightlys_loss(model, batch):
    (first, second), cosine = projections(model, batch), NegativeCosineSimilarity()
    theirs = (cosine(model.predictor(first), second) + cosine(model.predictor(second), first)) / 2
    assert float(model(batch)["loss"]) == pytest.approx(float(theirs), rel=1e-4)


@torch.no_grad()
def test_equal_views_cost_least_even_in_a_single_point(model):
    z = torch.randn(B, 1, 6).expand(B, 2, 6)
    assert given(model, z, Times(3)) == pytest.approx(-1)
    assert given(model, z, Times(-2)) == pytest.approx(1)
    assert given(model, z[:1].expand(B, 2, 6), Times(1)) == pytest.approx(-1)
    assert model.collapses  # so the run must watch for it


@torch.no_grad()
def test_a_view_does_not_predict_itself(model):
    z = torch.eye(2).expand(B, 2, 2)
    assert given(model, z, Times(1)) == pytest.approx(0)


def test_gradients_are_those_of_fixed_projections(model, batch):
    """And without the stop they would be others."""
    model(batch)["loss"].backward()
    learned = list(model.parameters())

    def by_hand(stop: bool) -> list[torch.Tensor]:
        first, second = projections(model, batch)
        targets = [z.detach() if stop else z for z in (second, first)]
        guesses = [model.predictor(z) for z in (first, second)]
        pairs = zip(guesses, targets, strict=True)
        return torch.autograd.grad(-sum(torch.cosine_similarity(p, z, -1).mean() / 2 for p, z in pairs), learned)

    for p, g in zip(learned, by_hand(stop=True), strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-3, atol=1e-6)
    off = [
        (p.grad - g).norm() / p.grad.norm().clamp_min(1e-9) for p, g in zip(learned, by_hand(stop=False), strict=True)
    ]
    assert max(off) > 0.1


@torch.no_grad()
def test_projections_are_standardised_over_the_batch(make_objective, batch):
    """The norm without weights at the end is what keeps SimSiam from a single point."""
    z = make_objective("simsiam").train().embed(batch["views"]).flatten(0, 1)
    torch.testing.assert_close(z.mean(0), torch.zeros(z.shape[1]), rtol=0, atol=1e-4)
    spread = z.var(0, unbiased=False)
    assert spread.median() > 0.9
    assert spread.max() < 1 + 1e-4
