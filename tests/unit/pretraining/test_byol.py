"""BYOL is the squared distance between predictions and the teacher's projections of the other view."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity

B = 5


@pytest.fixture
def model(make_objective) -> Any:
    """In eval mode, with a teacher that differs."""
    model = make_objective("byol").eval()
    with torch.no_grad():
        for p in model.teacher.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return model


def predictions_and_targets(model: Any, batch: dict[str, torch.Tensor]) -> tuple[list, list]:
    views = batch["views"].unbind(1)
    targets = [model.teacher.head(model.teacher.backbone(v)) for v in views]
    return [model.predictor(model.head(model.backbone(v))) for v in views], targets


def given(model: Any, guess: torch.Tensor, target: torch.Tensor) -> float:
    """The loss if these were predictions and targets, B 2 D."""
    model.embed, model.predictor = lambda _: guess, torch.nn.Identity()
    model.taught = lambda _: target
    return float(model({"views": target[..., None, None, None]})["loss"])


@torch.no_grad()
def test_byol_is_the_papers_distance_written_out(model, batch):
    guess, target = (torch.stack(x, 1).double().tolist() for x in predictions_and_targets(model, batch))
    total = 0.0
    for i in range(B):
        for v in range(2):
            p, t = guess[i][v], target[i][1 - v]
            p, t = ([x / math.hypot(*y) for x in y] for y in (p, t))
            total += sum((a - b) ** 2 for a, b in zip(p, t, strict=True))
    assert float(model(batch)["loss"]) == pytest.approx(total / B, rel=1e-5)


@torch.no_grad()
def test_byol_is_lightlys_cosine_but_for_scale(model, batch):
    (p, q), (s, t) = predictions_and_targets(model, batch)
    cosine = NegativeCosineSimilarity()
    assert float(model(batch)["loss"]) == pytest.approx(float(4 + 2 * (cosine(p, t) + cosine(q, s))), rel=1e-5)


@torch.no_grad()
def test_agreement_costs_nothing_even_in_a_single_point_and_contradiction_most(model):
    z = torch.randn(B, 2, 6)
    assert given(model, 3 * z, z.flip(1)) == pytest.approx(0, abs=1e-5)
    assert given(model, z, -2 * z.flip(1)) == pytest.approx(8, rel=1e-5)
    point = torch.randn(6).expand(B, 2, 6)
    assert given(model, point, point) == pytest.approx(0, abs=1e-5)
    assert model.collapses  # so the run must watch for it


@torch.no_grad()
def test_a_view_is_not_compared_with_itself(model):
    first, second = torch.eye(2).expand(B, 2, 2).unbind(1)
    assert given(model, torch.stack([first, second], 1), torch.stack([first, second], 1)) == pytest.approx(4)
    assert given(model, torch.stack([first, second], 1), torch.stack([second, first], 1)) == pytest.approx(0)


def test_gradients_are_those_of_fixed_targets(model, batch):
    model(batch)["loss"].backward()
    guess, target = predictions_and_targets(model, batch)
    by_hand = 4 - 2 * sum(
        torch.cosine_similarity(p, t.detach(), -1).mean() for p, t in zip(guess, target[::-1], strict=True)
    )
    names, learned = zip(*[(n, p) for n, p in model.named_parameters() if p.requires_grad], strict=True)
    assert not any(name.startswith("teacher") for name in names)
    for p, g in zip(learned, torch.autograd.grad(by_hand, learned), strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-3, atol=1e-6)


def test_the_teacher_moves_towards_what_it_teaches(make_objective):
    """And so do its projections: what is predicted is head and backbone."""
    model = make_objective("byol", horizon=0.2)
    with torch.no_grad():
        for part in (model.backbone, model.head, model.predictor):
            for p in part.parameters():
                p.add_(1)
    model.after_step(0.1)
    share = (1 - math.exp(-0.1 / 0.2)) * (1 + math.cos(math.pi * 0.1)) / 2
    for name in ("backbone", "head"):
        pairs = zip(getattr(model, name).parameters(), getattr(model.teacher, name).parameters(), strict=True)
        assert all(torch.allclose(fast - slow, torch.tensor(1 - share), atol=1e-5) for fast, slow in pairs)
