"""The first losses of every objective on fixed images: a change here is a change of what is trained."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from visionft.objective import OBJECTIVES
from visionft.recipe import Optim, Recipe
from visionft.train import fit

GOLDEN = {
    ("classify", "test_resnet"): [1.120323, 1.099905, 1.101189],
    ("simclr", "test_resnet"): [3.556313, 3.578443, 3.705354],
    ("simclr", "test_vit"): [5.064613, 5.239882, 4.816161],
    ("dino", "test_resnet"): [8.751222, 8.754476, 8.74729],
    ("dino", "test_vit"): [8.690516, 8.706709, 8.728719],
    ("mae", "test_vit"): [1.324852, 1.302524, 1.276386],
}


def images(*shape: int, seed: int) -> torch.Tensor:
    """Smooth random pictures, ... 3 H W uint8, made by torch alone: no resizing library has a say in them."""
    *lead, side = shape
    coarse = torch.rand(lead[0] * (lead[1] if lead[1:] else 1), 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    fine = F.interpolate(coarse, (side, side), mode="bilinear")
    return (fine * 255).to(torch.uint8).view(*lead, 3, side, side)


def fixed_data() -> list[dict[str, torch.Tensor]]:
    columns = {
        "image": images(24, 32, seed=0),
        "views": images(24, 2, 32, seed=1),
        "crops": images(24, 6, 16, seed=2),
        "label": torch.arange(24) % 3,
        "draw": torch.arange(24) + 1000,
    }
    return [{name: column[i] for name, column in columns.items()} for i in range(24)]


def first_losses(make_objective, name: str, model: str) -> list[float]:
    losses: list[float] = []
    objective = make_objective(name, model)
    recipe = Recipe(steps=3, batch=8, precision="fp32", log_every=1, optim=Optim(lr=1e-4))
    fit(objective, fixed_data(), recipe, log=lambda step, metrics: losses.append(metrics["loss"]))
    return losses


@pytest.mark.parametrize(("name", "model"), GOLDEN, ids=" ".join)
def test_the_first_three_losses_are_what_they_were(make_objective, name, model):
    assert first_losses(make_objective, name, model) == pytest.approx(GOLDEN[name, model], rel=1e-3)


def test_every_objective_has_golden_losses():
    assert {name for name, _ in GOLDEN} == set(OBJECTIVES)
