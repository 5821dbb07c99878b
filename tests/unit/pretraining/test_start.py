"""What a pretraining run starts from."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from visionft import tuning
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


def test_batch_norms_stay_as_they_are_when_they_come_with_the_weights(recipe, tmp_path):
    first = pretrain(recipe(), console=QUIET)
    assert "batch norms" not in setup(recipe(), QUIET).about
    words = {"backbone": str(first.out), "weights": "auto", "average": False, "out": str(tmp_path / "second")}
    made = dataclasses.replace(recipe(objective="byol"), **words)
    assert "Its batch norms stay as they are." in setup(made, QUIET).about
    second = pretrain(made, console=QUIET)
    before, after = first.backbone.state_dict(), second.backbone.state_dict()
    norms = {n for n, m in first.backbone.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not {name for name in moved if name.rpartition(".")[0] in norms}


@pytest.mark.parametrize("frozen", [True, False])
def test_a_teachers_batch_norms_do_what_the_students_do(recipe, frozen):
    run = setup(recipe(objective="dino", batchnorm="frozen" if frozen else "train"), QUIET)
    tuning.groups(run.model, run.recipe)
    tuning.settle(run.model)
    batch = run.training.collate([run.training[i] for i in range(8)])
    run.model(batch)
    pairs = [(m, run.model.teacher.get_submodule(n)) for n, m in run.model.named_modules()
             if isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and n.startswith("backbone.")]  # fmt: skip
    assert pairs
    for student, teacher in pairs:
        assert student.training == teacher.training == (not frozen)
    assert not any(m.training for m in run.model.eval().teacher.like(run.model).modules())
