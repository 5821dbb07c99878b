"""The rate that a sweep suggests lies below the one that would explode, and near it; what it swept is left alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visionft.objective import Objective
from visionft.rates import judged, sweep
from visionft.recipe import Optim, Recipe


class Regression(Objective):
    """Least squares: gradient descent is stable below 2 / the largest eigenvalue of the Hessian."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.backbone = nn.Linear(features, 1, bias=False)
        nn.init.zeros_(self.backbone.weight)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": (self.backbone(batch["x"])[:, 0] - batch["y"]).square().mean()}


def problem(scale: float, seed: int) -> tuple[list[dict[str, Tensor]], float]:
    """Points whose features differ in size by a factor of ten, and the largest stable rate."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(256, 12)) * np.geomspace(0.1, 1, 12) * scale
    y = x @ (rng.normal(size=12) / np.geomspace(0.1, 1, 12)) + 0.3 * scale * rng.normal(size=256)
    points = [{"x": torch.tensor(a).float(), "y": torch.tensor(b).float()} for a, b in zip(x, y, strict=True)]
    return points, 2 / float(np.linalg.eigvalsh(2 * x.T @ x / 256).max())


def recipe(batch: int, **changes) -> Recipe:
    optim = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip": None, **changes}
    return Recipe(steps=7, batch=batch, precision="fp32", patience=3, ema=0.3, grow=0.5, optim=Optim(**optim))


@pytest.mark.parametrize("scale", [1.0, 0.1, 10.0])
@pytest.mark.parametrize("batch", [256, 64])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_suggestion_is_stable_and_within_a_decade_of_the_largest_stable_rate(scale, batch, seed):
    points, limit = problem(scale, seed)
    model = Regression(12)
    found = sweep(model, points, recipe(batch), low=1e-5 / scale**2, high=100 / scale**2)
    assert limit / 10 < found.suggestion < limit
    assert found.rates[-1] < 100 / scale**2, "it ended when the loss exploded"
    assert found.suggestion < found.lowest
    assert f"optim.lr={found.suggestion:.1e}" in found.words


def test_what_is_swept_is_left_alone():
    points, _ = problem(1.0, 0)
    model = Regression(12)
    sweep(model, points, recipe(64), steps=20)
    assert model.backbone.weight.abs().sum() == 0
    assert model.training


def test_rates_rise_by_a_constant_factor_and_are_those_of_the_optimizer(monkeypatch):
    points, _ = problem(1.0, 0)
    seen = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD, "step", lambda self, *given: (seen.append(self.param_groups[0]["lr"]), step(self, *given))[1]
    )
    found = sweep(Regression(12), points, recipe(64, warmup=0.3, schedule="one-cycle"), low=1e-4, high=1e-2, steps=40)
    assert found.rates.tolist() == pytest.approx(seen)
    assert np.diff(np.log(found.rates)) == pytest.approx(np.full(39, np.log(100) / 40))


def test_a_loss_that_turns_to_nan_ends_the_sweep_with_what_was_seen(make_objective, make_data):
    model = make_objective("classify", "test_resnet")
    found = sweep(model, make_data(model), Recipe(steps=1, batch=8, precision="fp32"), low=1e-3, high=1e12, steps=60)
    assert 3 <= len(found.losses) < 60
    assert np.isfinite(found.losses).all()


def valley(noise: float, *, fall: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Flat up to 1e-4, down to 1e-2 by a straight line, then up."""
    at = np.linspace(-6, 0, 121)
    losses = 2 - fall * np.clip((at + 4) / 2, 0, 1) + 8 * fall * np.clip(at + 2, 0, None)
    return 10**at, losses + noise * np.random.default_rng(seed).normal(size=len(at))


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
def test_two_thirds_down_a_valley_that_is_known(noise):
    """From 10 ** -3.8, where a tenth is done, to 10 ** -2."""
    found = judged(*valley(noise))
    assert np.log10(found.suggestion) == pytest.approx(-3.8 / 3 - 2 * 2 / 3, abs=0.3)
    assert 1e-4 < found.steepest < 1e-2
    assert np.log10(found.lowest) == pytest.approx(-2, abs=0.35)


@pytest.mark.parametrize("seed", range(20))
def test_scatter_is_no_valley(seed):
    found = judged(*valley(0.2, fall=0.0, seed=seed))
    assert found.suggestion is None
    assert "tells nothing" in found.words


@pytest.mark.parametrize("seed", range(5))
def test_without_a_valley_it_is_a_tenth_of_the_rate_that_hurts(seed):
    """A good start: flat up to 1e-2, then up."""
    at = np.linspace(-6, 0, 121)
    noise = 0.05 * np.random.default_rng(seed).normal(size=121)
    found = judged(10**at, 0.5 + 4 * np.clip(at + 2, 0, None) + noise)
    assert found.steepest is None
    assert np.log10(found.suggestion) == pytest.approx(-3, abs=0.25)
    assert f"rises from {10 * found.suggestion:.1e}" in found.words


def test_a_loss_that_only_rises_or_is_too_short_suggests_nothing():
    rates = np.geomspace(1e-6, 1, 50)
    assert judged(rates, np.linspace(1, 9, 50)).suggestion is None
    assert judged(rates[:2], np.array([1.0, 0.5])).suggestion is None


def test_losses_below_zero_explode_too():
    """SimSiam's lies between -1 and 1."""
    rates, losses = valley(0.01)
    found = judged(rates, (losses - 2.5).clip(None, 1))
    assert np.log10(found.suggestion) == pytest.approx(-3.8 / 3 - 2 * 2 / 3, abs=0.3)
    points, _ = problem(1.0, 0)

    class Lower(Regression):
        def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {"loss": super().forward(batch)["loss"] - 90}

    swept = sweep(Lower(12), points, recipe(64), low=1e-3, high=1e9, steps=60)
    assert swept.losses[0] < 0 and len(swept.losses) < 45
