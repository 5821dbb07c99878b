"""Images grow in thirds of a run; what is small is the same picture, and the end of the run is at full size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionft.backbone import Backbone
from visionft.errors import ConfigError
from visionft.pretraining.mae import MAE
from visionft.progressive import cost, share_at, shrunk
from visionft.recipe import Optim, Recipe
from visionft.train import fit


@given(st.floats(0.25, 1.0))
def test_the_share_rises_from_the_start_to_one_in_thirds(start):
    assert share_at(0.0, start) == share_at(0.33, start) == start
    assert share_at(1 / 3, start) == share_at(0.66, start) == pytest.approx((1 + start) / 2)
    assert share_at(2 / 3, start) == share_at(1.0, start) == 1.0


def test_starting_at_half_the_side_saves_two_fifths():
    assert cost(1.0) == 1.0
    assert cost(0.5) == pytest.approx((0.25 + 0.5625 + 1) / 3)


def test_a_small_picture_shows_the_same_thing():
    ramp = torch.arange(64).expand(2, 3, 1, 64, 64).repeat(1, 1, 3, 1, 1) * 3
    batch = {
        "views": ramp.to(torch.uint8),
        "label": torch.arange(2),
        "plain": torch.full((2, 3, 48, 34), 7, dtype=torch.uint8),
    }
    small = shrunk(batch, 0.5, lambda pixels: 8 * round(pixels / 8))
    assert small["views"].shape == (2, 3, 3, 32, 32)
    assert small["label"] is batch["label"]
    assert small["plain"].shape == (2, 3, 24, 16)  # to whole eights
    assert (small["plain"] == 7).all()
    inner = small["views"][..., 2:-2].double()
    torch.testing.assert_close(inner, ramp.double().unfold(-1, 2, 2).mean(-1)[..., ::2, 2:-2], rtol=0, atol=1)


def sides(make_objective, make_data, **options) -> list[int]:
    """The sides of the images that a run sees, step by step."""
    objective, seen = make_objective("simclr", "test_resnet"), []
    objective.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]["views"].shape[-1]))
    recipe = Recipe(steps=6, batch=4, precision="fp32", optim=Optim(lr=1e-4), **options)
    fit(objective, make_data(objective), recipe)
    return seen[-6:]


def test_a_run_sees_every_size_for_a_third_of_its_steps(make_objective, make_data):
    assert sides(make_objective, make_data) == [32] * 6
    assert sides(make_objective, make_data, grow=0.5) == [16, 16, 24, 24, 32, 32]


def test_what_takes_one_size_only_is_told_before_training():
    objective = MAE(Backbone("test_vit", size=64))
    data = [{"image": torch.zeros(3, 64, 64, dtype=torch.uint8), "draw": torch.tensor(i)} for i in range(8)]
    with pytest.raises(ConfigError, match=r"MAE on test_vit takes images of one size.*leave grow=1"):
        fit(objective, data, Recipe(steps=3, batch=4, precision="fp32", grow=0.5))
