"""I-JEPA: blocks to predict never overlap what is seen, and features of a teacher are the target, not pixels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.layers import build_sincos2d_pos_embed

from visionft.backbone import Backbone
from visionft.errors import ConfigError
from visionft.pretraining.ijepa import IJEPA, split, spread
from visionft.pretraining.tokens import encode, patchify
from visionft.testing import check_objective

DRAW = torch.arange(50, 57)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    pixels = torch.randint(0, 256, (7, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return {"image": pixels, "draw": DRAW}


@pytest.fixture
def model() -> IJEPA:
    torch.manual_seed(0)
    made = IJEPA(Backbone("test_vit", size=64)).eval()
    with torch.no_grad():
        for p in made.teacher.parameters():
            p.add_(0.02 * torch.randn_like(p))  # a teacher that differs
        made.mask_token.normal_()
    return made


@pytest.mark.parametrize("side", [2, 3, 4, 7, 14, 16])
@pytest.mark.parametrize("blocks", [1, 4, 9])
@pytest.mark.parametrize("area", [0.1, 0.175, 0.6])
def test_what_is_seen_is_never_asked_for(side, blocks, area):
    seen, places = split(DRAW, side, blocks, area)
    assert seen.shape[1] >= side**2 / 4  # K is the same for every image: a tensor, not a list
    for visible, asked in zip(seen.tolist(), places.flatten(1).tolist(), strict=True):
        assert not set(visible) & set(asked)
        assert len(set(visible)) == len(visible)


def test_blocks_are_squares_of_the_promised_area_anywhere_in_the_image():
    seen, places = split(torch.arange(500), 14, 4, 0.175)
    assert places.shape == (500, 4, 36)  # 6 x 6 of 196 patches: 18 %
    assert seen.shape == (500, 196 - 4 * 36)
    rows, columns = places // 14, places % 14
    assert (rows.amax(-1) - rows.amin(-1) == 5).all() and (columns.amax(-1) - columns.amin(-1) == 5).all()
    corners = (rows.amin(-1) * 9 + columns.amin(-1)).flatten()
    assert corners.unique().numel() == 81  # every place that a block can have
    assert corners.bincount().min() > 2000 / 81 / 3


def test_an_image_is_split_alike_in_any_batch():
    seen, places = split(DRAW, 14, 4, 0.175)
    again = split(DRAW[2:3], 14, 4, 0.175)
    assert torch.equal(again[0][0], seen[2]) and torch.equal(again[1][0], places[2])
    assert not torch.equal(places[0], places[1])


@torch.no_grad()
def test_the_loss_is_smooth_l1_to_normalised_features_of_the_teacher_written_out(batch, model):
    seen, places = split(DRAW, 4, 4, 0.175)
    assert places.shape[1:] == (3, 4)  # four blocks would leave nothing to see
    patches = patchify(model.backbone.normalise(batch["image"]), 16)
    known = model.teacher.backbone.net.forward_features(model.backbone.normalise(batch["image"]))[:, 1:].double()
    place, errors = build_sincos2d_pos_embed([4, 4], 192), []
    for b in range(7):
        tokens = encode(model.backbone, patches[b : b + 1], seen[b : b + 1])
        context = model.enter(tokens[:, model.backbone.net.num_prefix_tokens :])[0]
        context = context + place[seen[b]]
        for block in places[b].tolist():
            asked = torch.stack([model.mask_token + place[at] for at in block])
            out = model.leave(model.predictor(torch.cat([context, asked])[None]))[0, len(context) :]
            for guess, at in zip(out.double(), block, strict=True):
                z = known[b, at]
                target = (z - z.mean()) / (z.var(unbiased=False) + 1e-5).sqrt()
                far = (guess - target).abs()
                errors.append(torch.where(far < 1, far.square() / 2, far - 0.5).mean())
    assert float(model(batch)["loss"]) == pytest.approx(float(torch.stack(errors).mean()), rel=1e-5)


@torch.no_grad()
def test_hidden_pixels_do_not_reach_the_student_and_do_reach_the_teacher(batch, model):
    seen, _ = split(DRAW, 4, 4, 0.175)
    visible = torch.zeros(7, 16, dtype=torch.bool).scatter(1, seen, True).view(7, 1, 4, 4)
    visible = visible.repeat_interleave(16, 2).repeat_interleave(16, 3)
    other = torch.where(visible, batch["image"], 255 - batch["image"])
    guesses = []
    predict = model.predict
    model.predict = lambda *parts: guesses.append(predict(*parts)) or guesses[-1]  # type: ignore[method-assign]
    losses = [model({**batch, "image": image})["loss"] for image in (batch["image"], other)]
    assert torch.equal(*guesses)
    assert not torch.equal(*losses)


def test_no_gradient_reaches_the_teacher_and_a_scaled_teacher_teaches_the_same(batch, model):
    model(batch)["loss"].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    before = model(batch)["loss"]
    with torch.no_grad():
        norm = model.teacher.backbone.net.norm
        norm.weight.mul_(3)
        norm.bias.mul_(3)
    torch.testing.assert_close(model(batch)["loss"], before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["test_vit2", "deit_tiny_distilled_patch16_224"])
def test_vits_with_registers_other_pooling_or_two_class_tokens_keep_the_promises(batch, name):
    check_objective(IJEPA(Backbone(name, size=64), width=48), {k: v[:2] for k, v in batch.items()})


@pytest.mark.parametrize("name", ["test_resnet", "test_vit_relpos"])
def test_what_is_no_plain_vit_is_refused_with_what_takes_it(name):
    with pytest.raises(ConfigError, match=f"ijepa needs a plain timm ViT, not {name}; simmim takes any model"):
        IJEPA(Backbone(name))


@torch.no_grad()
def test_a_teacher_that_says_one_thing_everywhere_is_predicted_for_free_and_its_spread_is_nothing(batch, model):
    assert model(batch)["teacher_spread"] > 0.01
    model.teacher.backbone.net.norm.weight.zero_()
    model.leave.weight.zero_()
    model.leave.bias.copy_(F.layer_norm(model.teacher.backbone.net.norm.bias, (64,)))
    assert float(model(batch)["loss"]) == pytest.approx(0, abs=1e-6)
    assert float(model(batch)["teacher_spread"]) == pytest.approx(0, abs=1e-6)


def test_the_spread_is_the_deviation_of_images_from_their_mean_at_each_place():
    z = torch.randn(7, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([z[:, n, d].std(unbiased=False) for n in range(4) for d in range(5)]).mean()
    torch.testing.assert_close(spread(z), expected)


@torch.no_grad()
def test_images_of_another_size_are_split_and_predicted_too(batch, model):
    small = F.interpolate(batch["image"].float(), (48, 48)).to(torch.uint8)
    assert model({**batch, "image": small})["loss"].isfinite()
