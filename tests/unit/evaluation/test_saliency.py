"""Grad-CAM is CAM where CAM is defined, lights up what decided, and leaves the network as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visionft.adapters.attach import adapt
from visionft.backbone import Backbone
from visionft.evaluation.saliency import GRAD_CAM, RELEVANCE, grad_cam, overlays, relevance, saliency
from visionft.evaluation.tables import Tables
from visionft.features import answering
from visionft.tasks.classify import Classify

SIDE = 32


def model(name: str, classes: int = 3, size: int = SIDE) -> Any:
    torch.manual_seed(0)
    made = Classify(Backbone(name, size=size), classes=classes).eval()
    nn.init.normal_(made.head.weight, std=0.05)
    return made


def some(n: int = 4, size: int = SIDE) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=g)


def cam(made: Any, features: torch.Tensor, said: torch.Tensor, side: int) -> torch.Tensor:
    """Zhou et al. 2016 (arXiv:1512.04150): the map of a class is the sum of maps weighted by its head's weights."""
    weight = made.head.weight[said] - made.head.weight.mean(0)  # what is added to all logits alike changes nothing
    grown = F.interpolate((weight[..., None, None] * features).sum(1, keepdim=True).relu(), (side, side),
                          mode="bilinear")[:, 0]  # fmt: skip
    return grown / grown.amax((1, 2), keepdim=True).clamp(min=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "tf_efficientnet_lite0", "convnext_atto"])
def test_of_a_pooled_map_and_a_linear_head_it_is_the_class_activation_map(name):
    made, images = model(name, size=64), some(size=64)
    features = made.backbone.net.forward_features(made.backbone.normalise(images))
    if name == "convnext_atto":  # a layer norm stands between: no CAM is defined, but the map has places
        assert grad_cam(made, images).shape == (4, 2, 2)
        return
    expected = cam(made, features, made.predict(images).argmax(1), 64)
    assert expected.amax((1, 2)).min() > 0.99
    assert torch.allclose(saliency(made, images)[0], expected, atol=1e-4)


class Brightness(nn.Module):
    """A network whose one feature is the mean brightness of each 4 x 4 pixels."""

    num_features = 1

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x.mean(1, keepdim=True), 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_features(x).mean((2, 3))


@pytest.mark.parametrize("corner", [(0, 0), (8, 20), (24, 24)])
def test_a_bright_square_that_alone_decides_lights_up_and_nothing_else_does(corner):
    made = model("test_resnet", classes=2)
    made.backbone.net, made.head = Brightness(), nn.Linear(1, 2, bias=False)
    made.backbone.mean.zero_()
    with torch.no_grad():
        made.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    image, (top, left) = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8), corner
    image[:, :, top : top + 8, left : left + 8] = 255
    found = saliency(made, image)[0][0]
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[max(0, top - 2) : top + 10, max(0, left - 2) : left + 10] = True  # growing the map blurs by half a place
    assert found[top + 4, left + 4] == 1
    assert found[inside].sum() == pytest.approx(float(found.sum())) and found[~inside].max() == 0


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "test_resnet", "test_vit"])
def test_the_map_has_the_size_of_the_picture_and_lies_between_zero_and_one(name):
    side = 224 if "swin" in name else 64
    found, method = saliency(model(name, size=side), some(2, side))
    assert method.startswith(RELEVANCE if "vit" in name else GRAD_CAM)
    assert found.shape == (2, side, side)
    assert found.min() >= 0 and found.max() <= 1 and found.std() > 0


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_vit_that_learnt_to_find_a_square_looks_at_it(pool):
    """By the last block the square has been told to every token: Grad-CAM there was seen to look anywhere else."""
    torch.manual_seed(0)
    backbone = Backbone("vit_tiny_patch16_224", size=64)
    backbone.net.blocks, backbone.net.global_pool = backbone.net.blocks[:2], pool
    made, rng = Classify(backbone, classes=2), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(made.parameters(), 1e-3)
    for _ in range(40):
        images, labels, _ = squares(16, rng)
        loss = made({"image": images, "label": labels})["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    images, labels, cell = squares(32, rng)
    with torch.no_grad():
        assert (made.eval().predict(images).argmax(1) == labels).float().mean() > 0.9
    shown = labels == 1
    hottest = F.avg_pool2d(saliency(made, images)[0][:, None], 16).flatten(1).argmax(1)
    assert (hottest[shown] == cell[shown]).float().mean() > 0.9  # by chance 1/16


def squares(n: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise, and in half of the images a bright square in one of 4 x 4 cells."""
    images = torch.randint(90, 130, (n, 3, 64, 64), dtype=torch.uint8, generator=rng)
    cell = torch.randint(0, 16, (n,), generator=rng)
    for i in range(0, n, 2):
        row, column = divmod(int(cell[i]), 4)
        images[i, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 250
    return images, (torch.arange(n) + 1) % 2, cell


def test_tables_kept_by_hand_leave_every_answer_as_it_was():
    for name in ("vit_tiny_patch16_224", "beit_base_patch16_224"):  # the latter adds a bias to the scores
        made, images = model(name, size=64), some(2, 64)
        with torch.no_grad(), Tables() as tables:
            by_hand = made.predict(images)
        assert torch.allclose(by_hand, made.predict(images), atol=1e-5)
        assert len(tables.seen) == len(made.backbone.net.blocks)
        assert torch.allclose(tables.seen[0].sum(-1), torch.ones(()), atol=1e-5)


def test_relevance_of_one_block_is_attention_times_its_gradient():
    made, images = model("vit_tiny_patch16_224", size=64), some(2, 64)
    made.backbone.net.blocks = made.backbone.net.blocks[:1]
    with Tables() as tables:
        log_p = made.predict(images).log()
        (log_p.max(1).values - log_p.mean(1)).sum().backward(inputs=(table := tables.seen[0]))
    places = (table * table.grad).relu().mean(1)[:, 0, 1:].unflatten(1, (4, 4)).detach()
    expected = F.interpolate(places[:, None], (64, 64), mode="bilinear")[:, 0]
    expected /= expected.amax((1, 2), keepdim=True)
    assert torch.allclose(saliency(made, images)[0], expected, atol=1e-5)
    assert relevance(made, images).shape == (2, 4, 4)


@pytest.mark.parametrize("name", ["test_resnet", "vit_tiny_patch16_224"])
def test_a_frozen_network_gives_the_map_of_a_learning_one_and_keeps_no_gradient(name):
    made, images = model(name, size=64), some(size=64)
    learning, _ = saliency(made, images)
    made.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(saliency(made, images)[0], learning)
    assert all(p.grad is None for p in made.parameters())
    assert "forward_features" not in vars(made.backbone.net)
    assert not any(block._forward_pre_hooks for block in getattr(made.backbone.net, "blocks", []))


def test_folded_norms_change_the_map_by_no_more_than_rounding():
    made, images = model("test_resnet", size=64), some(size=64)
    plain, _ = saliency(made, images)
    with answering(made.backbone), torch.autocast("cpu", enabled=False):
        folded, _ = saliency(made, images)
    assert torch.allclose(plain, folded, atol=1e-4)


@pytest.mark.parametrize("adapter", ["lora", "prompts", "prefix", "bottleneck"])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_resnet"])
def test_an_adapter_has_its_say(name, adapter):
    if name == "test_resnet" and adapter in ("prompts", "prefix"):
        pytest.skip("made of tokens")
    made, images = model(name, size=64), some(size=64)
    plain, method = saliency(made, images)
    torch.manual_seed(0)
    adapt(made.backbone, adapter)
    for p in made.backbone.adapter.parameters():
        nn.init.normal_(p, std=0.1)
    found, same = saliency(made, images)
    assert found.shape == plain.shape and method == same and not torch.allclose(found, plain, atol=1e-2)


def test_a_network_that_keeps_no_one_map_has_none_and_still_answers():
    made, images = model("crossvit_tiny_240", size=240), some(1, 240)
    assert saliency(made, images) is None and overlays(made, images) is None
    assert made.predict(images).shape == (1, 3)


def test_an_overlay_is_a_picture_of_the_images_size():
    drawn, method = overlays(model("test_resnet", size=64), some(size=64))
    assert method == f"{GRAD_CAM}, 2 x 2 places"
    assert len(drawn) == 4 and drawn[0].shape == (64, 64, 3) and drawn[0].dtype.name == "uint8"


def test_the_map_is_that_of_the_class_that_is_asked_for():
    made, images = model("test_resnet", size=64), some(size=64)
    with torch.no_grad():
        likeliest = made.predict(images).argmax(1)
    assert torch.equal(saliency(made, images)[0], saliency(made, images, likeliest)[0])
    other, _ = saliency(made, images, (likeliest + 1) % 3)
    features = made.backbone.net.forward_features(made.backbone.normalise(images)).detach()
    assert torch.allclose(other, cam(made, features, (likeliest + 1) % 3, 64), atol=1e-4)


def test_a_map_of_one_place_is_none():
    assert saliency(model("test_resnet"), some()) is None
