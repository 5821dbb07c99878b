"""LeJEPA is prediction plus a test for Gaussianity that has a closed form, a known mean and a known worst case."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss.lejepa_loss import LeJEPALoss, SIGReg

from visionft.objective import Objective
from visionft.pretraining.lejepa import sigreg

B, V, D = 12, 5, 4


def given(model: Objective, z: torch.Tensor) -> dict[str, torch.Tensor]:
    """The losses if these were the embeddings, B V D, of two large views and V - 2 small ones."""
    model.embed = lambda *views: z
    return model({"views": z[:, :2], "crops": z[:, 2:]})


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def units(slices: int, dim: int = D) -> torch.Tensor:
    return F.normalize(randn(dim, slices, seed=1), dim=0)


def closed_form(x: torch.Tensor) -> float:
    """N ∫ |φ(t) - exp(-t²/2)|² exp(-t²/2) dt over the whole line, term by term, for N numbers."""
    pairs = (-(x[:, None] - x).square() / 2).exp().sum() / len(x)
    single = math.sqrt(2) * (-x.square() / 4).exp().sum()
    return float(math.sqrt(2 * math.pi) * (pairs - single + len(x) / math.sqrt(3)))


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_sigreg_is_the_integral_in_closed_form(spread):
    z, directions = spread * randn(B, V, D).double() + 0.3, units(7).double()
    expected = [closed_form(z[:, v] @ directions[:, s]) for v in range(V) for s in range(7)]
    assert float(sigreg(z, directions)) == pytest.approx(sum(expected) / len(expected), rel=1e-3)


def test_samples_of_a_gaussian_cost_what_chance_does():
    """Independent normal samples have the mean √2π (1 - 1/√3), whatever their number."""
    for count in (16, 256):
        draws = torch.stack([sigreg(randn(count, 4, 8, seed=at), units(64, 8)) for at in range(40)])
        assert float(draws.mean()) == pytest.approx(math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3)), rel=0.1)


@pytest.mark.parametrize("count", [8, 64])
def test_a_single_point_costs_in_proportion_to_the_batch(count):
    cost = count * math.sqrt(2 * math.pi) * (1 - math.sqrt(2) + 1 / math.sqrt(3))
    assert float(sigreg(torch.zeros(count, 1, D), units(5))) == pytest.approx(cost, rel=1e-4)


def test_everything_but_the_isotropic_gaussian_costs_more():
    z, directions = randn(512, 1, 8), units(256, 8)
    line = z[..., :1] * torch.ones(8)
    sphere = F.normalize(z, dim=-1)
    fair = float(sigreg(z, directions))
    for other in (2 * z, 0.5 * z, z + 1, line, sphere, z.abs(), 0 * z):
        assert float(sigreg(other, directions)) > 3 * fair


def test_sigreg_pulls_a_cloud_to_unit_variance_from_both_sides():
    for scale, pull in ((0.5, -1), (2.0, 1)):
        s = torch.tensor(scale, requires_grad=True)
        sigreg(s * randn(256, 1, 8), units(64, 8)).backward()
        assert s.grad * pull > 0


class Along(SIGReg):
    """lightly's, along the directions of the test."""

    def _generate_unit_vectors(self, device, dtype, num_features):
        return units(6, num_features)


def test_sigreg_is_lightlys_up_to_the_tails():
    """Theirs integrates over [-3, 3], ours over the paper's [-5, 5]."""
    z = randn(B, V, D)
    ours = float(sigreg(z, units(6)))
    assert ours == pytest.approx(float(Along(t_max=5.0)(z.transpose(0, 1))), rel=1e-5)
    assert ours == pytest.approx(float(Along()(z.transpose(0, 1))), rel=0.05)


@pytest.mark.parametrize("weight", [0.05, 0.5])
def test_lejepa_is_prediction_and_sigreg_written_out(make_objective, weight):
    model, z = make_objective("lejepa", weight=weight, slices=6, out=D), randn(B, V, D)
    errors = []
    for b in range(B):
        centre = (z[b, 0] + z[b, 1]) / 2  # of the large views alone
        errors += [float((z[b, v] - centre).square().mean()) for v in range(V)]
    along = model.directions()
    slices = [closed_form(z[:, v].double() @ along[:, s].double()) for v in range(V) for s in range(6)]
    near, gaussian = sum(errors) / len(errors), sum(slices) / len(slices)
    said = given(model, z)
    assert float(said["invariance"]) == pytest.approx(near, rel=1e-5)
    assert float(said["sigreg"]) == pytest.approx(gaussian, rel=1e-3)
    strength = weight * 128 / B  # as in a batch of 128, the paper's smallest
    assert float(said["loss"]) == pytest.approx((1 - weight) * near + strength * gaussian, rel=1e-3)


@pytest.mark.parametrize("count", [128, 200])
@torch.no_grad()
def test_from_the_papers_batch_on_lejepa_is_lightlys_along_the_same_directions(make_objective, count):
    model, z = make_objective("lejepa", slices=6, out=D), randn(count, V, D)
    model.directions = lambda: units(6)
    theirs = LeJEPALoss()
    theirs.sigreg = Along(t_max=5.0)
    views = z.transpose(0, 1)
    expected = theirs(local_proj=views[2:], global_proj=views[:2])
    torch.testing.assert_close(given(model, z)["loss"], expected)


def test_the_target_is_not_stopped(make_objective):
    """One small crop that is off by one pulls the large views towards it: -2 / (2 B V D) each."""
    z = torch.zeros(B, V, D)
    z[:, 2] = 1
    z.requires_grad_()
    given(make_objective("lejepa", weight=0.0, out=D), z)["loss"].backward()
    torch.testing.assert_close(z.grad[:, :2], torch.full((B, 2, D), -1 / (B * V * D)))


def test_directions_are_unit_vectors_that_change_with_every_step_and_with_nothing_else(make_objective):
    model = make_objective("lejepa", slices=9)
    before = torch.get_rng_state()
    first = model.directions()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model.directions(), first)
    torch.testing.assert_close(first.norm(dim=0), torch.ones(9))
    model.after_step(0.5)
    second = model.directions()
    assert (second - first).abs().max() > 0.1
    other = make_objective("lejepa", slices=9, seed=5)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.directions(), second)


@torch.no_grad()
def test_lejepa_needs_no_small_crops(make_objective):
    views = torch.randint(0, 256, (4, 2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    said = make_objective("lejepa")({"views": views})
    assert said["loss"].isfinite()


@pytest.mark.parametrize("name", ["lejepa", "swav"])
@torch.no_grad()
def test_the_head_normalises_large_and_small_views_together(make_objective, name):
    g = torch.Generator().manual_seed(0)
    views = torch.randint(0, 256, (4, 2, 3, 32, 32), dtype=torch.uint8, generator=g)
    crops = torch.randint(0, 256, (4, 3, 3, 16, 16), dtype=torch.uint8, generator=g)
    model = make_objective(name).train()
    z = model.embed(views, crops)
    features = torch.cat([torch.stack([model.backbone(v) for v in x.unbind(1)], 1) for x in (views, crops)], 1)
    torch.testing.assert_close(z.flatten(0, 1), model.project(features.flatten(0, 1)), rtol=1e-4, atol=1e-4)
    assert z.shape[:2] == (4, 5)
