"""SimMIM on every kind of network: what is hidden has no part in the guess, and nothing else is judged."""

from __future__ import annotations

import pytest
import torch

from visionft.backbone import Backbone
from visionft.errors import ConfigError
from visionft.pretraining.simmim import SimMIM
from visionft.testing import check_objective

KINDS = {  # network -> one of each layout and each stem
    "test_resnet": "B D h w",
    "test_convnext": "a norm behind the maps",
    "test_efficientnet": "a convolution behind the maps",
    "test_vit": "a class token",
    "test_vit2": "registers, and pooling by the mean",
    "test_vit_relpos": "tokens without a mask token's seam",
    "swin_s3_tiny_224": "B h w D",
}
SMALL = [name for name in KINDS if name != "swin_s3_tiny_224"]


def objective(name: str, side: int = 64, **options: object) -> SimMIM:
    torch.manual_seed(0)
    return SimMIM(Backbone(name, size=side), **options)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    pixels = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return {"image": pixels, "draw": torch.arange(7, 10)}


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_changing_hidden_pixels_changes_no_guess(batch, name):
    model = objective(name).eval()
    places = model.hide(batch["draw"], 64)
    covered = places.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None]
    pixels = model.backbone.normalise(batch["image"])
    other = torch.where(covered, torch.randn_like(pixels), pixels)
    assert torch.equal(model.encode(other, places), model.encode(pixels, places))
    changed = model.encode(torch.where(covered, pixels, torch.randn_like(pixels)), places)
    assert not torch.equal(changed, model.encode(pixels, places))  # what is visible does matter


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_the_loss_is_the_mean_error_of_hidden_pixels_written_out(batch, name):
    model = objective(name).eval()
    places = model.hide(batch["draw"], 64)
    pixels = model.backbone.normalise(batch["image"])
    last = model.encode(pixels, places)
    size = 64 // model.stride
    if last.ndim == 3:  # behind the prefix, row by row
        last = torch.stack([last[:, len(last[0]) - size**2 + i] for i in range(size**2)], -1).unflatten(2, (size, size))
    weight, bias = model.head.weight[:, :, 0, 0].double(), model.head.bias.double()
    errors = []
    for b, row, column in places.nonzero().tolist():
        for y in range(16 * row, 16 * row + 16):
            for x in range(16 * column, 16 * column + 16):
                z = last[b, :, y // model.stride, x // model.stride].double()
                for c in range(3):
                    out = (c * model.stride + y % model.stride) * model.stride + x % model.stride
                    errors.append((weight[out] @ z + bias[out] - pixels[b, c, y, x]).abs())
    assert float(model(batch)["loss"]) == pytest.approx(float(torch.stack(errors).mean()), rel=1e-5)


@pytest.mark.parametrize(("mask", "of16"), [(0.6, 10), (0.3, 5), (0.01, 1), (0.99, 15)])
@torch.no_grad()
def test_every_image_has_the_promised_share_hidden_and_its_own_squares(batch, mask, of16):
    model = objective("test_resnet", mask=mask).eval()
    places = model.hide(batch["draw"], 64)
    assert places.flatten(1).sum(1).tolist() == [of16] * 3
    alone = model.hide(batch["draw"][1:2], 64)
    assert torch.equal(alone[0], places[1])
    if 1 < of16 < 15:
        assert not torch.equal(places[0], places[1])


@pytest.mark.parametrize(
    ("name", "side", "unit"),
    [("test_resnet", 32, 8), ("test_resnet", 64, 16), ("test_resnet", 128, 32), ("test_resnet", 512, 32),
     ("test_resnet", 96, 24), ("test_vit", 32, 16), ("test_vit", 96, 16), ("test_vit", 128, 32)],
)  # fmt: skip
def test_squares_are_of_32_pixels_or_four_by_four(name, side, unit):
    assert objective(name, side).squares(side) == unit


@pytest.mark.parametrize(
    ("name", "side", "unit", "works"),
    [
        ("test_resnet", 72, None, "size=64 or size=96"),  # no multiple of the stride
        ("test_resnet", 16, None, "size=32"),
        ("test_resnet", 96, 64, "size=128"),
        ("test_vit", 64, 48, "size=96"),
        ("test_vit", 32, 32, "size=64"),  # one square is no choice
    ],
)
def test_a_size_that_squares_do_not_fill_is_refused_and_one_that_works_is_named(name, side, unit, works):
    with pytest.raises(ConfigError, match=f"{works} works$"):
        objective(name, side, unit=unit)
    named = int(works.split("=")[-1])
    assert objective(name, named, unit=unit).squares(named)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_network_keeps_the_promises(batch, name):
    check_objective(objective(name), batch)


@torch.no_grad()
def test_an_image_of_the_colour_that_is_guessed_costs_nothing(batch):
    model = objective("test_resnet").eval()
    model.head.weight.zero_()
    model.head.bias.fill_(0.5)
    image = torch.full((3, 3, 64, 64), 0.5)
    assert float(model({**batch, "image": image})["loss"]) == pytest.approx(0, abs=1e-6)
    assert float(model({**batch, "image": image + 2})["loss"]) == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@torch.no_grad()
def test_pictures_show_what_was_seen_and_rebuild_nothing_else(batch, name):
    model = objective(name).eval()
    pixels, made = model.backbone.normalise(batch["image"]), model.pictures(batch)
    covered = model.hide(batch["draw"], 64).repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None].expand_as(pixels)
    assert torch.equal(made["seen"][~covered], pixels[~covered]) and (made["seen"][covered] == 0).all()
    assert torch.equal(made["rebuilt"][~covered], pixels[~covered])
    error = (made["rebuilt"] - pixels)[covered].abs().mean()
    torch.testing.assert_close(model(batch)["loss"], error)
