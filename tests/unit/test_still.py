"""A copy that only answers says what the backbone says, to the bit, and leaves that as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from visionft.adapters.attach import adapt
from visionft.backbone import Backbone
from visionft.features import answering
from visionft.folding import Norm
from visionft.precision import inference
from visionft.still import still
from visionft.tasks.classify import Classify
from visionft.tasks.networks import Networks

NETWORKS = ("test_resnet", "test_efficientnet", "test_byobnet", "test_vit", "test_convnext", "densenet121")


def trained(name: str) -> Backbone:
    """With statistics that are not those it begins with."""
    torch.manual_seed(0)
    backbone = Backbone(name).eval()
    for module in backbone.modules():
        if isinstance(module, Norm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return backbone


def norms(backbone: Backbone) -> int:
    return sum(isinstance(module, Norm) for module in backbone.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_the_same_to_the_bit(name):
    backbone, images = trained(name), torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    quick = still(backbone)
    with torch.no_grad():
        with answering(backbone):
            wanted, maps = backbone(images), backbone.maps(images, [-2, -1])
        with inference(images.device):
            assert quick(images).equal(wanted)
            assert all(map(torch.equal, quick.maps(images, [-2, -1]), maps))
    assert all(value.equal(before[key]) for key, value in backbone.state_dict().items())


def test_what_can_be_folded_is_gone():
    assert norms(trained("test_resnet")) > 0 == norms(still(trained("test_resnet")))
    assert 0 < norms(still(trained("densenet121"))) < norms(trained("densenet121"))  # those that come before


def test_a_norm_whose_activation_is_not_known_stays():
    class Odd(nn.BatchNorm2d):
        """Says something else than a norm does."""

        def forward(self, x):
            return super().forward(x).sin()

    backbone, images = trained("test_resnet"), torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    odd = Odd(backbone.net.bn1.num_features).eval()
    odd.load_state_dict(backbone.net.bn1.state_dict())
    backbone.net.bn1 = odd
    quick = still(backbone)
    assert norms(quick) == 1
    with torch.no_grad(), inference(images.device):
        torch.testing.assert_close(quick(images), backbone(images), rtol=0.05, atol=0.05)


def test_a_network_with_an_adapter_is_left_alone():
    backbone = trained("test_vit")
    adapt(backbone, "lora")
    assert still(backbone) is backbone


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_finished_networks_say_the_same_to_the_bit_and_share_their_last_layer(name):
    model = Classify(trained(name), classes=3)
    asked = [np.random.default_rng(at).integers(0, 255, (64, 64, 3), np.uint8) for at in range(3)]
    images = {"size": 64, "channels": 3, "white": 65535, "flips": 1}
    before, after = (Networks([model], 3, images) for _ in range(2))
    assert after.finish().ask(asked).equal(before.ask(asked))
    with torch.no_grad():
        model.head.weight.mul_(2)
    assert after.ask(asked).equal(before.ask(asked)) and after.model is model
