"""Barlow Twins compares the correlations between two views with the identity."""

from __future__ import annotations

import math

import pytest
import torch
from lightly.loss import BarlowTwinsLoss
from scipy.linalg import hadamard

from visionft.objective import Objective

B, D = 8, 6
EPS = 1e-5  # of the batch norm that standardises


def given(model: Objective, z: torch.Tensor) -> dict[str, torch.Tensor]:
    """The losses if these were the embeddings, B 2 D."""
    model.embed = lambda *views: z
    return model({"views": z})


@pytest.fixture
def z() -> torch.Tensor:
    return torch.randn(B, 2, D, generator=torch.Generator().manual_seed(0)) * torch.arange(1, D + 1) + 3


@pytest.fixture
def white() -> torch.Tensor:
    """8 6, features of mean 0 and variance 1 without correlation."""
    return torch.tensor(hadamard(8)[:, 1:7], dtype=torch.float32)


@pytest.mark.parametrize("weight", [5e-3, 0.5])
@torch.no_grad()
def test_barlow_is_its_sum_written_out(make_objective, z, weight):
    rows = z.double().numpy()
    mean = [[sum(rows[i, v, j] for i in range(B)) / B for j in range(D)] for v in range(2)]
    std = [
        [math.sqrt(sum((rows[i, v, j] - mean[v][j]) ** 2 for i in range(B)) / B + EPS) for j in range(D)]
        for v in range(2)
    ]
    same = other = 0.0
    for j in range(D):
        for k in range(D):
            c = sum(
                (rows[i, 0, j] - mean[0][j]) / std[0][j] * (rows[i, 1, k] - mean[1][k]) / std[1][k] for i in range(B)
            )
            same += (1 - c / B) ** 2 if j == k else 0
            other += (c / B) ** 2 if j != k else 0
    said = given(make_objective("barlow", redundancy=weight), z)
    assert [float(said[k]) for k in ("invariance", "redundancy")] == pytest.approx([same, other], rel=1e-5)
    assert float(said["loss"]) == pytest.approx(same + weight * other, rel=1e-5)
    assert float(said["loss"]) == pytest.approx(float(BarlowTwinsLoss(lambda_param=weight)(*z.unbind(1))), rel=1e-5)


@torch.no_grad()
def test_barlow_of_equal_uncorrelated_views_is_nothing(make_objective, white):
    said = given(make_objective("barlow"), torch.stack([white, 5 * white + 2], 1))
    assert float(said["loss"]) == pytest.approx(0, abs=1e-6)


@torch.no_grad()
def test_opposite_views_pay_four_a_feature(make_objective, white):
    said = given(make_objective("barlow"), torch.stack([white, -white], 1))
    assert float(said["loss"]) == pytest.approx(4 * D, rel=1e-4)


@torch.no_grad()
def test_features_that_say_the_same_pay_one_a_pair(make_objective, white):
    line = white[:, :1].expand(-1, D)
    said = given(make_objective("barlow", redundancy=0.1), torch.stack([line, line], 1))
    assert float(said["loss"]) == pytest.approx(0.1 * D * (D - 1), rel=1e-4)


@torch.no_grad()
def test_a_single_point_correlates_with_nothing(make_objective):
    assert float(given(make_objective("barlow"), torch.full((B, 2, D), 3.0))["loss"]) == pytest.approx(D)


@torch.no_grad()
def test_barlow_does_not_care_about_scale_place_or_order(make_objective, z):
    model = make_objective("barlow")
    loss = given(model, z)["loss"]
    for same in (z * torch.arange(1, D + 1), z + torch.arange(D), z.flip(0), z.flip(1), z.flip(2), -z):
        torch.testing.assert_close(given(model, same)["loss"], loss, rtol=1e-4, atol=1e-5)


def test_no_gradient_moves_or_scales_a_feature(make_objective, z):
    """What standardisation takes away, the loss cannot ask for."""
    z.requires_grad_()
    given(make_objective("barlow"), z)["loss"].backward()
    torch.testing.assert_close(z.grad.sum(0), torch.zeros(2, D), rtol=0, atol=1e-5)
    torch.testing.assert_close((z.grad * z).sum(0), torch.zeros(2, D), rtol=0, atol=1e-4)
    assert z.grad.abs().min() > 0
