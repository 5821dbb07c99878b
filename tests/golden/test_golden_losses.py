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
    ("heads", "test_resnet"): [1.089655, 0.856799, 0.832026],
    ("heads", "test_vit"): [1.088139, 0.871046, 0.832464],
    ("simclr", "test_resnet"): [3.556313, 3.578443, 3.705354],
    ("simclr", "test_vit"): [5.064613, 5.239882, 4.816161],
    ("dino", "test_resnet"): [8.751222, 8.754476, 8.74729],
    ("dino", "test_vit"): [8.690516, 8.706709, 8.728719],
    ("distill", "test_resnet"): [1.231549, 1.263996, 1.236123],
    ("distill", "test_vit"): [1.473341, 1.310389, 1.288244],
    ("byol", "test_resnet"): [4.028285, 4.001466, 4.097507],
    ("byol", "test_vit"): [3.89532, 3.963897, 3.830863],
    ("simsiam", "test_resnet"): [0.006937, 0.003475, 0.004719],
    ("simsiam", "test_vit"): [-0.006938, -0.018699, -0.012827],
    ("mocov3", "test_resnet"): [1.606727, 1.836881, 1.71353],
    ("mocov3", "test_vit"): [1.718141, 1.730788, 1.680022],
    ("densecl", "test_resnet"): [2.191669, 2.294484, 2.317325],
    ("densecl", "test_vit"): [2.327724, 2.261898, 2.135779],
    ("vicreg", "test_resnet"): [25.215876, 24.829515, 25.043478],
    ("vicreg", "test_vit"): [25.878784, 24.914938, 25.217289],
    ("barlow", "test_resnet"): [807.975464, 787.643311, 803.649841],
    ("barlow", "test_vit"): [820.400452, 763.755859, 800.722656],
    ("swav", "test_resnet"): [7.328738, 7.327499, 7.342576],
    ("swav", "test_vit"): [7.304482, 7.307971, 7.31998],
    ("lejepa", "test_resnet"): [2.286233, 2.189585, 2.217891],
    ("lejepa", "test_vit"): [2.239239, 2.217777, 2.161902],
    ("mae", "test_vit"): [1.417387, 1.364799, 1.35282],
    ("simmim", "test_resnet"): [0.49288, 0.460763, 0.475402],
    ("simmim", "test_vit"): [0.620915, 0.564837, 0.576778],
    ("ijepa", "test_vit"): [0.502929, 0.482954, 0.475984],
    ("dinov2", "test_resnet"): [8.726093, 8.726202, 8.727738],
    ("dinov2", "test_vit"): [17.318941, 17.375784, 17.444403],
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
        "teacher": torch.randn(24, 96, generator=torch.Generator().manual_seed(3)),  # what distill asks for
        "draw": torch.arange(24) + 1000,
        "targets": fixed_targets(),
    }
    return [{name: column[i] for name, column in columns.items()} for i in range(24)]


def fixed_targets() -> torch.Tensor:
    """A class, three flags, a level and a number of each image, as `heads` asks for; some are unknown."""
    at = torch.arange(24.0, dtype=torch.float64)
    flags = (at[:, None] + torch.arange(3)) % 2
    values = torch.cat([at[:, None] % 3, flags, at[:, None] % 4, 30 + 2.5 * at[:, None]], dim=1)
    values[::6, 1:4], values[5, 4], values[1::4, 5] = torch.nan, torch.nan, torch.nan
    return values


def first_losses(make_objective, name: str, model: str) -> list[float]:
    losses: list[float] = []
    objective = make_objective(name, model)
    recipe = Recipe(steps=3, batch=8, precision="fp32", log_every=1, optim=Optim(lr=1e-4))
    fit(objective, fixed_data(), recipe, log=lambda step, metrics: losses.append(metrics["loss"]))
    return losses


@pytest.mark.parametrize(("name", "model"), GOLDEN, ids=" ".join)
def test_the_first_three_losses_are_what_they_were(make_objective, name, model):
    assert first_losses(make_objective, name, model) == pytest.approx(GOLDEN[name, model], rel=1e-3, abs=1e-4)


def test_every_objective_has_golden_losses():
    assert {name for name, _ in GOLDEN} == set(OBJECTIVES)
