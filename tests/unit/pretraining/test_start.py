"""What a pretraining run starts from."""

from __future__ import annotations

import pytest
import torch

from visionft.data.records import Table
from visionft.errors import ConfigError
from visionft.log import Console
from visionft.pretraining.run import pretrain, rehearse
from visionft.pretraining.start import setup
from visionft.recipe import Pretrain

QUIET = Console(quiet=True)


@pytest.fixture
def recipe(pixels, tmp_path):
    """A short run on the small images."""

    def make(**words) -> Pretrain:
        given = {"backbone": "test_resnet", "weights": "none", "size": 32, "batch": 8, "steps": 2, "precision": "fp32"}
        return Pretrain(data=Table.of(pixels), out=str(tmp_path / "run"), cache="off", **{**given, **words})

    return make


@pytest.mark.parametrize("objective", ["simclr", "dino", "mae"])
@torch.no_grad()
def test_batched_augmentation_trains_on_the_same_pictures(recipe, objective):
    words = {"backbone": "test_vit" if objective == "mae" else "test_resnet", "objective": objective}
    losses = {}
    for batched in ("no", "yes"):
        run = setup(recipe(batched=batched, **words), QUIET)
        device = torch.device("cpu")
        items = [run.training[i] for i in range(8)]
        batch = {key: value.to(device) for key, value in run.training.collate(items).items()}
        losses[batched] = float(run.model.eval()(batch)["loss"])
    assert losses["yes"] == pytest.approx(losses["no"], rel=1e-2)


def test_a_batched_run_trains_and_can_be_rehearsed(recipe):
    assert any("steps: 2" in line for line in rehearse(recipe(batched="yes", objective="dino"), console=QUIET))
    done = pretrain(recipe(batched="yes", objective="dino"), console=QUIET)
    assert (done.out / "run.json").is_file()


def test_policies_that_cannot_be_batched_are_named(recipe):
    views = {"views": {"policy": "medium"}}
    with pytest.raises(ConfigError, match="cannot draw the views views"):
        setup(recipe(batched="yes", views=views), QUIET)
    assert setup(recipe(batched="auto", views=views), QUIET).training.recorders == {}
