"""Any timm model has one face: pooled features, maps, depths; and what it saves, plain timm loads."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision.transforms import Compose, Normalize, ToTensor

from visionft.backbone import Backbone
from visionft.backbones import load
from visionft.checkpoint import finish
from visionft.errors import WeightsError

DIMS = {
    "resnet18": 512,
    "resnet50": 2048,
    "vit_tiny_patch16_224": 192,
    "convnext_atto": 320,
    "mobilenetv3_small_100": 1024,
    "swin_tiny_patch4_window7_224": 768,
    "tf_efficientnet_lite0": 1280,
}
BIG = ("resnet50", "swin_tiny_patch4_window7_224", "tf_efficientnet_lite0", "vit_tiny_patch16_224")
MODELS = [pytest.param(name, marks=pytest.mark.slow if name in BIG else ()) for name in DIMS]
TINY = ["test_resnet", "test_vit", "test_vit2", "test_convnext", "test_efficientnet", "test_mambaout"]
SIZE = 64


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [*MODELS, *TINY])
@torch.no_grad()
def test_features_and_maps_have_the_promised_shapes(name, images):
    backbone = Backbone(name, size=SIZE).eval()
    z = backbone(images)
    assert z.shape == (3, backbone.dim)
    assert backbone.dim == DIMS.get(name, backbone.dim)
    assert z.isfinite().all()
    maps = backbone.maps(images, 3)
    sides = [m.shape[-1] for m in maps]
    assert len(maps) == 3
    for m in maps:
        assert m.shape[0] == 3
        assert m.shape[2] == m.shape[3]
        assert m.shape[1] >= 3  # NCHW: channels are where they belong
    assert sides == sorted(sides, reverse=True), "finest first"
    assert sides[-1] == backbone.maps(images)[0].shape[-1]


@pytest.mark.parametrize("name", [*MODELS, *TINY])
def test_depths_cover_every_parameter_and_rise_from_stem_to_head(name, images):
    backbone = Backbone(name, size=SIZE)
    depth, names = backbone.depth_of(), [n for n, _ in backbone.named_parameters()]
    assert set(depth) == set(names)
    levels = [depth[n] for n in names if n.rpartition(".")[2] not in ("cls_token", "pos_embed", "reg_token")]
    assert min(levels) == 0
    assert set(levels) == set(range(max(levels) + 1)), "no level is empty"
    assert levels == sorted(levels), "parameters come in the order of the layers"


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "tf_efficientnet_lite0"])
def test_uint8_pixels_are_normalised_as_torchvision_would(name, images):
    backbone = Backbone(name, size=SIZE)
    cfg = backbone.net.pretrained_cfg
    theirs = Compose([ToTensor(), Normalize(cfg["mean"], cfg["std"])])
    expected = torch.stack([theirs(np.ascontiguousarray(image.permute(1, 2, 0).numpy())) for image in images])
    torch.testing.assert_close(backbone.normalise(images), expected, rtol=1e-6, atol=1e-6)


def test_floating_point_images_are_taken_as_normalised(images):
    backbone = Backbone("test_resnet").eval()
    normal = backbone.normalise(images)
    assert torch.equal(backbone.normalise(normal), normal)
    with torch.no_grad():
        assert torch.equal(backbone(normal), backbone(images))


def test_mean_and_std_may_be_given_and_are_kept(images):
    backbone = Backbone("test_resnet", mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0))
    white = backbone.normalise(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    assert white[0, :, 0, 0].tolist() == pytest.approx([2.0, 1.0, 0.5])
    again = Backbone(**backbone.spec())
    assert torch.equal(again.normalise(images), backbone.normalise(images))


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
@torch.no_grad()
def test_any_number_of_channels_feeds_in(name, channels):
    backbone = Backbone(name, channels=channels, size=SIZE).eval()
    images = torch.randint(0, 256, (2, channels, SIZE, SIZE), dtype=torch.uint8)
    assert backbone(images).shape == (2, backbone.dim)
    assert backbone.normalise(images).shape == images.shape


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", [*MODELS, "test_vit", "test_resnet", "test_convnext"])
@torch.no_grad()
def test_a_saved_backbone_is_plain_timm_and_gives_the_same_features_bit_for_bit(tmp_path, name, channels, images):
    torch.manual_seed(1)
    owner = nn.Module()
    owner.backbone = backbone = Backbone(name, size=SIZE, channels=channels).eval()
    for buffer in backbone.net.buffers():
        if buffer.is_floating_point():
            buffer.add_(0.1)  # statistics that only the file can bring
    finish(tmp_path, owner, {"backbone": backbone.spec()})

    sized = {"img_size": SIZE} if "vit" in name or "swin" in name else {}
    plain = timm.create_model(
        name, checkpoint_path=str(tmp_path / "backbone.safetensors"), num_classes=0, in_chans=channels, **sized
    ).eval()
    pixels = images[:, :1].expand(-1, channels, -1, -1).contiguous()
    assert torch.equal(plain(backbone.normalise(pixels)), backbone(pixels))


@torch.no_grad()
def test_a_run_folder_is_a_backbone_with_its_preprocessing(tmp_path, images):
    owner = nn.Module()
    owner.backbone = first = Backbone("test_vit", size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3).eval()
    finish(tmp_path, owner, {"backbone": first.spec()})
    by_name, by_weights = load(str(tmp_path)).eval(), load("test_vit", str(tmp_path)).eval()
    assert torch.equal(by_name(images), first(images))
    assert torch.equal(by_weights(images), first(images))
    assert str(tmp_path) in str(by_name.loaded)


@torch.no_grad()
def test_a_run_goes_on_at_another_size(tmp_path):
    owner = nn.Module()
    owner.backbone = first = Backbone("test_vit", size=64).eval()
    finish(tmp_path, owner, {"backbone": first.spec()})
    second = load(str(tmp_path), size=96).eval()
    assert second.size == 96
    assert second(torch.zeros(1, 3, 96, 96)).shape == (1, first.dim)
    assert not second.loaded.missing


def test_a_run_folder_that_does_not_fit_says_so(tmp_path):
    owner = nn.Module()
    owner.backbone = Backbone("test_resnet", channels=1)
    finish(tmp_path / "gray", owner, {"backbone": owner.backbone.spec()})
    with pytest.raises(WeightsError, match=r"trained on 1 channels; set channels=1"):
        load(str(tmp_path / "gray"))
    with pytest.raises(WeightsError, match=r"holds test_resnet, not test_vit"):
        load("test_vit", str(tmp_path / "gray"), channels=1)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "run.json").write_text(json.dumps({"verb": "pretrain"}))
    with pytest.raises(WeightsError, match="half"):
        load(str(tmp_path / "half"))


def test_a_model_that_timm_lacks_is_named_with_the_nearest(images):
    with pytest.raises(WeightsError, match="did you mean resnet18"):
        Backbone("resnet_18")
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors is no file"):
        load("test_resnet", "nowhere.safetensors")


def test_what_was_meant_for_a_network_is_told_what_it_is(tmp_path):
    (tmp_path / "pre").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.yaml").touch()
    (tmp_path / "w.safetensors").touch()
    for name, said in {
        f"{tmp_path}/pro": r"pro does not exist; did you mean .*/pre\?",
        f"{tmp_path}/pre": r"pre holds no run$",
        f"{tmp_path}/begun": r"begun holds an unfinished run: run its recipe again",
        f"{tmp_path}/w.safetensors": r"holds weights; name their network: backbone=MODEL weights=/.*/w\.safetensors$",
        "package:efficientnet-lite0": r"network: backbone=tf_efficientnet_lite0 weights=package:efficientnet-lite0$",
        "nothing-like-it": r"timm has no model 'nothing-like-it'; timm\.list_models",
    }.items():
        with pytest.raises(WeightsError, match=said):
            load(name)


def test_sides_are_what_the_model_can_take():
    assert [Backbone("test_vit", size=64).side(p) for p in (1, 30, 64, 72.5)] == [16, 32, 64, 80]
    assert [Backbone("test_resnet").side(p) for p in (1, 30, 57.6)] == [8, 32, 56]
    assert Backbone("pvt_v2_b0").side(64) == 64  # patches of 7 that overlap


def test_a_plain_vit_takes_any_number_of_whole_patches_and_says_how_large_they_are():
    vit = Backbone("test_vit").eval()
    with torch.no_grad():
        assert [tuple(vit.maps(torch.zeros(1, 3, *size))[0].shape[-2:]) for size in ((48, 80), (160, 160))] == [
            (3, 5), (10, 10)
        ]  # fmt: skip
    assert [Backbone(name).patch for name in ("test_vit", "test_resnet", "pvt_v2_b0")] == [16, None, None]


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "test_vit4", "test_mambaout"])
@pytest.mark.parametrize("pixels", [57.6, 96])
@torch.no_grad()
def test_every_model_can_take_the_side_it_names(name, pixels):
    """DINO's small crops are `side(share * size)` wide."""
    backbone = Backbone(name, size=128).eval()
    side = backbone.side(pixels)
    assert backbone(torch.zeros(1, 3, side, side)).shape == (1, backbone.dim)
