"""Batch norms remember what they saw in training: a wrong normalisation is noticed in one pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from visionft.backbone import Backbone
from visionft.data.views import Views, batches
from visionft.preprocessing import IMAGENET, USUAL, check, shift
from visionft.weights import Loaded

SIZE = 32


def trained(pixels: list[np.ndarray], mean, std) -> Backbone:
    """A backbone whose batch norms have seen these images, normalised like this."""
    torch.manual_seed(0)
    backbone = Backbone("test_resnet", mean=mean, std=std).train()
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
    with torch.no_grad():
        backbone(images(pixels))
    backbone.loaded = Loaded("a test", ("conv1.weight",))
    return backbone


def images(pixels: list[np.ndarray]) -> torch.Tensor:
    from visionft.features import EVALUATION

    return next(batches(Views(pixels, EVALUATION, {"image": SIZE}), len(pixels)))["image"]


def renormalised(backbone: Backbone, mean, std) -> Backbone:
    backbone.mean.copy_(torch.tensor(mean).view(1, 3, 1, 1))
    backbone.std.copy_(torch.tensor(std).view(1, 3, 1, 1))
    return backbone


@pytest.mark.parametrize("kind", USUAL)
def test_the_right_normalisation_raises_no_alarm(pixels, kind):
    backbone = trained(pixels, *USUAL[kind])
    assert shift(backbone, images(pixels)) < 0.05
    assert check(backbone, pixels, SIZE) == ""


@pytest.mark.parametrize(("right", "wrong"), [("half", "none (0 to 1)"), ("imagenet", "none (0 to 1)")])
def test_a_wrong_one_is_named_with_the_one_that_fits(pixels, right, wrong):
    backbone = renormalised(trained(pixels, *USUAL[right]), *USUAL[wrong])
    said = check(backbone, pixels, SIZE)
    assert "WARNING" in said
    assert f"'{right}'" in said


def test_looking_changes_nothing(pixels):
    backbone = renormalised(trained(pixels, *USUAL["half"]), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)).train()
    before = {k: v.clone() for k, v in backbone.named_buffers()}
    check(backbone, pixels, SIZE)
    assert backbone.training
    assert all(torch.equal(v, before[k]) for k, v in backbone.named_buffers())


def test_where_nothing_can_be_known_nothing_is_said(pixels):
    assert check(Backbone("test_resnet"), pixels, SIZE) == ""  # random weights expect nothing
    vit = Backbone("test_vit", size=SIZE)
    vit.loaded = Loaded("a test", ("cls_token",))
    assert shift(vit, images(pixels)) is None
    assert check(vit, pixels, SIZE) == ""
    assert check(trained(pixels, *IMAGENET), [], SIZE) == ""
