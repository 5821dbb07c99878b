"""MoCo v3 is the cross entropy of finding the teacher's view of oneself among those of all images."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

B = 5


@pytest.fixture
def make(make_objective) -> Any:
    """In eval mode, with a teacher that differs."""

    def made(**options: Any) -> Any:
        model = make_objective("mocov3", **options).eval()
        with torch.no_grad():
            for p in model.teacher.parameters():
                p.add_(0.02 * torch.randn_like(p))
        return model

    return made


def queries_and_keys(model: Any, batch: dict[str, torch.Tensor]) -> tuple[list, list]:
    views = batch["views"].unbind(1)
    keys = [F.normalize(model.teacher.head(model.teacher.backbone(v)), dim=1).detach() for v in views]
    return [F.normalize(model.predictor(model.head(model.backbone(v))), dim=1) for v in views], keys


def given(model: Any, queries: torch.Tensor, keys: torch.Tensor) -> float:
    """The loss if these were queries and keys, B 2 D."""
    model.embed, model.predictor = lambda _: queries, torch.nn.Identity()
    model.taught = lambda _: keys
    return float(model({"views": keys[..., None, None, None]})["loss"])


@pytest.mark.parametrize("temperature", [0.2, 1.0])
@torch.no_grad()
def test_mocov3_is_its_two_contrasts_written_out(make, batch, temperature):
    model = make(temperature=temperature)
    queries, keys = (torch.stack(x, 1).double() for x in queries_and_keys(model, batch))
    loss = 0.0
    for v in range(2):
        for i in range(B):
            likes = [float(queries[i, v] @ keys[j, 1 - v]) / temperature for j in range(B)]
            loss += 2 * temperature * (-likes[i] + math.log(sum(map(math.exp, likes)))) / B
    assert float(model(batch)["loss"]) == pytest.approx(loss, rel=1e-5)


@torch.no_grad()
def test_a_single_point_costs_the_logarithm_of_the_batch(make):
    model, point = make(temperature=0.3), torch.randn(6).expand(B, 2, 6)
    assert given(model, point, point) == pytest.approx(4 * 0.3 * math.log(B), rel=1e-5)


@torch.no_grad()
def test_images_at_right_angles_cost_what_the_temperature_leaves(make):
    model, apart = make(temperature=0.5), torch.eye(B)[:, None].expand(B, 2, B)
    assert given(model, 2 * apart, 3 * apart) == pytest.approx(2 * math.log(1 + (B - 1) * math.exp(-2)), rel=1e-5)
    assert given(model, apart, apart.roll(1, 0)) > given(model, apart, apart)


@torch.no_grad()
def test_mocov3_does_not_care_about_the_order_of_images_or_views(make, batch):
    model = make()
    loss = model(batch)["loss"]
    for views in (batch["views"].flip(0), batch["views"].flip(1)):
        torch.testing.assert_close(model({"views": views})["loss"], loss)


def test_gradients_are_those_of_fixed_keys(make, batch):
    model = make()
    model(batch)["loss"].backward()
    (first, second), (one, two) = queries_and_keys(model, batch)
    label = torch.arange(B)
    by_hand = 0.4 * (F.cross_entropy(first @ two.T / 0.2, label) + F.cross_entropy(second @ one.T / 0.2, label))
    learned = [p for p in model.parameters() if p.requires_grad]
    for p, g in zip(learned, torch.autograd.grad(by_hand, learned), strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-3, atol=1e-6)
