"""Folding changes what a network costs, and nothing else."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from visionft import norms
from visionft.backbone import Backbone
from visionft.folding import foldable
from visionft.kernels import fast_kernels
from visionft.recipe import Optim, Recipe
from visionft.train import fit

MODELS = ["resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_050", "resnetv2_50", "densenet121", "regnety_002"]
FOLDED = {"resnet18": 20, "tf_efficientnet_lite0": 49, "mobilenetv3_small_050": 34, "regnety_002": 44}


def lively(network: nn.Module) -> nn.Module:
    """The network with batch norms that have seen something."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) / 10)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(module.bias, -0.5, 0.5, generator=generator)
    return network


def passed(network: nn.Module, images: torch.Tensor, fold: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    """Output, gradients, and how many norms were spared."""
    network.zero_grad()
    with fast_kernels() as kernels:
        spared = kernels.fold(network) if fold else 0
        out = network(images)
        out.square().mean().backward()
    return out.detach(), {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}, spared


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients_are_those_of_the_network_as_it_is(name):
    network = lively(Backbone(name, size=64)).double().eval()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out, grads, _ = passed(network, images, fold=False)
    folded, folded_grads, spared = passed(network, images, fold=True)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert spared == FOLDED.get(name, spared) <= norms
    torch.testing.assert_close(folded, out, rtol=1e-9, atol=1e-9)
    assert grads.keys() == folded_grads.keys()
    for key, grad in grads.items():
        torch.testing.assert_close(folded_grads[key], grad, rtol=1e-6, atol=1e-9 * float(grad.abs().max() + 1))


def test_norms_that_train_are_left_alone():
    network = Backbone("resnet18", size=64).train()
    assert passed(network, torch.randn(2, 3, 64, 64), fold=True)[2] == 0
    network.net.layer4.eval()
    assert passed(network, torch.randn(2, 3, 64, 64), fold=True)[2] == 5


class Shared(nn.Module):
    """Convolutions whose outputs go elsewhere, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1, bias=at > 0) for at in range(3))
        self.one, self.two, self.three = (nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A norm of its own; a residual around the norm; one norm for two convolutions."""
        y = self.one(self.first(x))
        z = self.second(y)
        return self.three(self.third(self.two(z) + z)) + self.three(self.third(y).relu())


def test_only_outputs_that_go_nowhere_else_are_folded():
    network = lively(Shared()).eval()
    assert {network.first.weight: network.one} == foldable(network, torch.randn(1, 3, 8, 8))


class Straight(nn.Module):
    """A convolution whose output goes to a norm and, raw, to another convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Both ways, added."""
        y = self.first(x)
        return self.norm(y) + self.second(y)


def test_what_another_convolution_reads_raw_is_not_folded():
    assert foldable(lively(Straight()).eval(), torch.randn(1, 3, 8, 8)) == {}


def test_a_state_that_is_loaded_counts_at_once():
    network, other = (lively(Backbone("test_resnet", size=32)).eval() for _ in range(2))
    for parameter in other.parameters():
        nn.init.normal_(parameter, std=0.1)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), fast_kernels() as kernels:
        assert kernels.fold(network)
        network.load_state_dict(other.state_dict())
        torch.testing.assert_close(network(images), copy.deepcopy(other)(images), rtol=1e-4, atol=1e-4)


def test_a_folded_norm_that_goes_back_to_training_is_an_error():
    network = Backbone("test_resnet", size=32).eval()
    with fast_kernels() as kernels, pytest.raises(RuntimeError, match="went back to training"):
        kernels.fold(network)
        network.train()(torch.randn(2, 3, 32, 32))


def test_a_run_with_frozen_norms_learns_the_same(make_objective, make_data, monkeypatch):
    recipe = Recipe(steps=3, batch=8, batchnorm="frozen", precision="fp32", optim=Optim(name="sgd", lr=1e-2))
    ends, spared = [], []
    for fold in (True, False):
        objective = make_objective("classify", "test_resnet")
        lively(objective.backbone)
        data = make_data(objective)
        with monkeypatch.context() as patch:
            if not fold:
                patch.setattr("visionft.kernels.Kernels.fold", lambda self, backbone: 0)
            fit(objective, data, recipe)
        ends.append(objective.state_dict())
        norms.settle(objective)
        with fast_kernels() as kernels:
            spared.append(kernels.fold(objective.backbone))
    assert spared[0] > 0
    for key, end in ends[0].items():
        torch.testing.assert_close(end, ends[1][key], rtol=1e-3, atol=1e-4)


def test_what_was_found_is_remembered_until_the_network_changes(monkeypatch):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    image, looked = torch.zeros(1, 3, 8, 8), []
    network[0].register_forward_pre_hook(lambda *_: looked.append(1))
    assert len(foldable(network, image)) == len(foldable(network, image)) == 1 and len(looked) == 1
    network[1].train()
    assert not foldable(network, image) and len(looked) == 2
    network[1].eval()
    network.insert(1, nn.Conv2d(4, 4, 1))  # now another convolution feeds the norm
    assert list(foldable(network, image)) == [network[1].weight] and len(looked) == 3
    held = weakref.ref(network)
    del network
    gc.collect()
    assert held() is None
