"""VICReg is the paper's three terms, and is pleased by what the paper wants alone."""

from __future__ import annotations

import math

import pytest
import torch
from lightly.loss import VICRegLoss
from scipy.linalg import hadamard

from visionft.objective import Objective

B, D = 8, 6


def given(model: Objective, z: torch.Tensor) -> dict[str, torch.Tensor]:
    """The losses if these were the embeddings, B 2 D."""
    model.embed = lambda *views: z
    return model({"views": z})


def white(scale: float = 1.0) -> torch.Tensor:
    """8 6, whose features have mean 0, variance `scale`² and no covariance."""
    return torch.tensor(hadamard(8)[:, 1:7], dtype=torch.float32) * scale * math.sqrt(7 / 8)


def twins(z: torch.Tensor) -> torch.Tensor:
    return torch.stack([z, z], 1)


@pytest.fixture
def z() -> torch.Tensor:
    return 0.7 * torch.randn(B, 2, D, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (3.0, 5.0, 7.0)])
@torch.no_grad()
def test_vicreg_is_its_three_terms_written_out(make_objective, z, weights):
    model = make_objective("vicreg", invariance=weights[0], variance=weights[1], covariance=weights[2])
    rows = z.double().numpy()
    near = sum((rows[i, 0, j] - rows[i, 1, j]) ** 2 for i in range(B) for j in range(D)) / (B * D)
    wide = apart = 0.0
    for view in (rows[:, 0], rows[:, 1]):
        mean = [sum(view[i, j] for i in range(B)) / B for j in range(D)]
        cov = [
            [sum((view[i, j] - mean[j]) * (view[i, k] - mean[k]) for i in range(B)) / (B - 1) for k in range(D)]
            for j in range(D)
        ]
        wide += sum(max(0.0, 1 - math.sqrt(cov[j][j] + 1e-4)) for j in range(D)) / D / 2
        apart += sum(cov[j][k] ** 2 for j in range(D) for k in range(D) if j != k) / D
    said = given(model, z)
    assert float(said["loss"]) == pytest.approx(weights[0] * near + weights[1] * wide + weights[2] * apart, rel=1e-5)
    assert float(said["loss"]) == pytest.approx(float(VICRegLoss(*weights)(*z.unbind(1))), rel=1e-6)
    assert [float(said[k]) for k in ("invariance", "variance", "covariance")] == pytest.approx([near, wide, apart])


@torch.no_grad()
def test_vicreg_of_equal_views_with_unit_variances_and_no_covariance_is_nothing(make_objective):
    assert float(given(make_objective("vicreg"), twins(white()))["loss"]) == pytest.approx(0, abs=1e-6)


@torch.no_grad()
def test_a_single_point_pays_the_whole_variance(make_objective):
    said = given(make_objective("vicreg"), torch.full((B, 2, D), 3.0))
    assert float(said["loss"]) == pytest.approx(25 * (1 - math.sqrt(1e-4)), rel=1e-6)


@torch.no_grad()
def test_features_that_say_the_same_pay_their_covariances(make_objective):
    said = given(make_objective("vicreg"), twins(white()[:, :1].expand(-1, D)))
    assert float(said["loss"]) == pytest.approx(2 * (D - 1), rel=1e-5)  # each of D rows has D-1 ones, in both views


@torch.no_grad()
def test_vicreg_does_not_care_where_the_cloud_is_nor_about_order(make_objective, z):
    model = make_objective("vicreg")
    loss = given(model, z)["loss"]
    for same in (z + torch.arange(D), z.flip(0), z.flip(1), z.flip(2), -z):
        torch.testing.assert_close(given(model, same)["loss"], loss)


def test_variance_is_a_hinge(make_objective):
    """A feature that varies enough is pushed no further, one that varies too little is."""
    model = make_objective("vicreg", invariance=0.0, covariance=0.0)
    for scale, pushed in ((1.1, False), (0.9, True)):
        z = twins(white(scale)).requires_grad_()
        given(model, z)["loss"].backward()
        assert bool(z.grad.abs().sum() > 0) is pushed


def test_both_views_move(make_objective, z):
    z.requires_grad_()
    given(make_objective("vicreg", variance=0.0, covariance=0.0), z)["loss"].backward()
    expected = 25 * 2 * (z[:, 0] - z[:, 1]).detach() / (B * D)
    torch.testing.assert_close(z.grad, torch.stack([expected, -expected], 1))
