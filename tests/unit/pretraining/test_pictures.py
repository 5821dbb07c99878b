"""The pictures of a report show what they say: neighbours, a map, where a network looks, what MAE rebuilt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from visionft.backbone import Backbone
from visionft.evaluation import looks
from visionft.pretraining import pictures
from visionft.pretraining.tokens import patchify, unpatchify

SIDE = 32


@pytest.fixture
def images() -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8, generator=g)


def test_the_neighbours_of_a_duplicated_image_are_its_copies_with_cosine_1():
    z = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    z[[3, 9, 17]] = z[0] * torch.tensor([[1.0], [2.0], [0.5]])  # a cosine does not care how long they are
    cosine, place = pictures.neighbours(z, 2, 5)
    assert set(place[0, :3].tolist()) == {3, 9, 17}
    assert cosine[0, :3].tolist() == pytest.approx([1, 1, 1])
    assert cosine[0, 3] < 0.99
    assert 1 not in place[1]
    assert cosine.diff(dim=1).max() <= 0


def test_a_few_images_have_as_many_neighbours_as_there_are():
    assert pictures.neighbours(torch.randn(3, 4), 3, 5)[1].shape == (3, 2)


def test_the_map_separates_two_separate_clusters():
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 2
    z = torch.randn(60, 32, generator=g) + 6 * torch.randn(2, 32, generator=g)[labels]
    points, share = pictures.flattened(z)
    first = [points[labels == c, 0] for c in (0, 1)]
    assert first[0].max() < first[1].min() or first[1].max() < first[0].min()
    assert 0.5 < share < 1


def test_the_map_keeps_all_distances_of_what_lies_in_a_plane():
    angle = torch.rand(12, dtype=torch.float64) * 6
    basis = torch.linalg.qr(torch.randn(9, 2, dtype=torch.float64))[0]
    z = torch.stack([angle.cos(), angle.sin()], 1) @ basis.T
    points, share = pictures.flattened(z)
    assert share == pytest.approx(1)
    assert torch.allclose(torch.cdist(points, points), torch.cdist(z, z), atol=1e-6)


def test_one_point_has_a_map_too():
    points, share = pictures.flattened(torch.ones(5, 3))
    assert torch.isfinite(points).all()
    assert 0 <= share <= 1


@torch.no_grad()
def test_attention_is_what_timm_computes(images):
    backbone = Backbone("vit_tiny_patch16_224", size=SIDE).eval()
    layer, caught = backbone.net.blocks[-1].attn, []
    layer.fused_attn = False  # then the table of scores passes through the dropout
    with layer.attn_drop.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0])):
        backbone(images)
    found = looks.attention(backbone, images)
    assert found.shape == (4, 3, 2, 2)
    assert torch.allclose(found.flatten(2), caught[0][:, :, 0, 1:], atol=1e-6)


@torch.no_grad()
def test_a_map_of_convolutions_has_the_cosine_of_every_place_with_the_mean(images):
    backbone = Backbone("test_resnet", size=SIDE).eval()
    assert looks.attention(backbone, images) is None
    found, features = looks.similarity(backbone, images), backbone.maps(images)[-1]
    pooled = features.mean((2, 3))
    assert found[1, 0, 0] == pytest.approx(float(F.cosine_similarity(features[1, :, 0, 0], pooled[1], dim=0)), abs=1e-6)


@torch.no_grad()
def test_what_mae_saw_is_the_image_or_nothing_and_what_it_rebuilt_is_the_image_where_it_saw_it(make_objective, images):
    model = make_objective("mae", "vit_tiny_patch16_224", mask=0.5).eval()
    batch = {"image": images, "draw": torch.arange(4)}
    normal, made = model.backbone.normalise(images), model.pictures(batch)
    for at in range(4):
        patches = [patchify(x[at : at + 1], 16)[0] for x in (normal, made["seen"], made["rebuilt"])]
        shown = (patches[1] != 0).any(1)
        assert shown.sum() == 2
        assert torch.equal(patches[1][shown], patches[0][shown])
        assert torch.equal(patches[2][shown], patches[0][shown])
        for whole in (patches[0][~shown], patches[2][~shown]):  # the paper's targets have each patch's mean taken out
            assert not torch.equal(whole, torch.zeros_like(whole))


@torch.no_grad()
def test_a_perfect_guess_rebuilds_the_image(make_objective, images, monkeypatch):
    from visionft.pretraining.mae import standardised

    model = make_objective("mae", "vit_tiny_patch16_224").eval()
    patches = patchify(model.backbone.normalise(images), 16)
    hidden = torch.tensor([[0, 2, 3]] * 4)
    truth = standardised(patches.gather(1, hidden[..., None].expand(-1, -1, patches.shape[2])))
    monkeypatch.setattr(model, "guess", lambda batch: (patches, hidden, truth))
    rebuilt = model.pictures({"image": images})["rebuilt"]
    assert np.array_equal(looks.restored(model.backbone, rebuilt), images.permute(0, 2, 3, 1).numpy())


def test_patches_are_put_back_where_they_were():
    x = torch.randn(2, 5, 32, 48)
    assert torch.equal(unpatchify(patchify(x, 8), 32, 8), x)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_every_objective_can_be_looked_at(make_objective, pixels, channels):
    plain = pictures.plain([np.dstack([p, p])[..., :channels] for p in pixels], SIDE, channels)
    for name, model in (("simclr", "test_resnet"), ("dino", "test_vit"), ("mae", "vit_tiny_patch16_224")):
        objective = make_objective(name, model, channels=channels)
        sheets, places = pictures.learnt(objective.backbone, plain, None, SIDE)
        sheets += pictures.own(objective, plain)
        assert len(sheets) == (3 if name == "mae" else 2)
        assert places.points.shape == (len(pixels), 2)
        for sheet in sheets:
            assert len(sheet.pictures) % sheet.columns == 0
            assert all(p.shape == (SIDE, SIDE, 3) and p.dtype == np.uint8 for p, _ in sheet.pictures)
