"""Each pretraining loss equals the paper's formula, written out by hand, and the peer's part it is made of."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DCLLoss, DINOLoss, NTXentLoss
from timm.models.vision_transformer import VisionTransformer

from visionft.backbone import Backbone
from visionft.errors import ConfigError
from visionft.objective import noise
from visionft.pretraining.dino import DINO
from visionft.pretraining.mae import MAE
from visionft.pretraining.simclr import SimCLR
from visionft.pretraining.tokens import encode, patchify
from visionft.weights import Loaded

B = 5


def embeddings(model: SimCLR, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """B 2 D on the sphere, computed view by view where the network has no batch statistics."""
    z = model.project(model.backbone(batch["views"].flatten(0, 1)))
    return F.normalize(z.unflatten(0, (B, 2)), dim=-1)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@torch.no_grad()
def test_simclr_is_nt_xent_written_out(make_objective, batch, temperature):
    model = make_objective("simclr", temperature=temperature).eval()
    z = embeddings(model, batch)
    rows = z.flatten(0, 1).double()  # image i has rows 2i and 2i + 1
    total = 0.0
    for i in range(2 * B):
        partner = i ^ 1
        others = sum(math.exp(float(rows[i] @ rows[j]) / temperature) for j in range(2 * B) if j != i)
        total += -float(rows[i] @ rows[partner]) / temperature + math.log(others)
    loss = float(model(batch)["loss"])
    assert loss == pytest.approx(total / (2 * B), rel=1e-5)
    assert loss == pytest.approx(float(NTXentLoss(temperature=temperature)(z[:, 0], z[:, 1])), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@torch.no_grad()
def test_dcl_leaves_the_partner_out_of_the_denominator(make_objective, batch, temperature):
    model = make_objective("simclr", temperature=temperature, loss="dcl").eval()
    z = embeddings(model, batch)
    rows = z.flatten(0, 1).double()
    total = 0.0
    for i in range(2 * B):
        partner = i ^ 1
        others = sum(math.exp(float(rows[i] @ rows[j]) / temperature) for j in range(2 * B) if j not in (i, partner))
        total += -float(rows[i] @ rows[partner]) / temperature + math.log(others)
    loss = float(model(batch)["loss"])
    assert loss == pytest.approx(total / (2 * B), rel=1e-5)
    assert loss == pytest.approx(float(DCLLoss(temperature=temperature)(z[:, 0], z[:, 1])), rel=1e-6)


@torch.no_grad()
def test_simclr_does_not_care_about_the_order_of_images_or_views(make_objective, batch):
    model = make_objective("simclr").eval()
    loss = model(batch)["loss"]
    for views in (batch["views"].flip(0), batch["views"].flip(1)):
        torch.testing.assert_close(model({**batch, "views": views})["loss"], loss)


@torch.no_grad()
def test_two_equal_views_of_distant_images_cost_least(make_objective, batch):
    model = make_objective("simclr").eval()
    same = {**batch, "views": batch["views"][:, :1].expand(-1, 2, -1, -1, -1)}
    assert model(same)["loss"] < model(batch)["loss"]


def test_patches_are_in_the_order_of_the_embedding_convolution():
    images = torch.randn(2, 3, 8, 12)
    conv = torch.nn.Conv2d(3, 7, 4, stride=4)
    linear = F.linear(patchify(images, 4), conv.weight.flatten(1), conv.bias)
    torch.testing.assert_close(linear, conv(images).flatten(2).transpose(1, 2))
    patches = patchify(images, 4)
    torch.testing.assert_close(patches[1, 4], images[1, :, 4:8, 4:8].flatten())  # second row, second column


def masked_loss(model: MAE, batch: dict[str, torch.Tensor]) -> float:
    """The paper's loss with loops: one image, one patch at a time."""
    images = model.backbone.normalise(batch["image"])
    count = (images.shape[-1] // model.patch) ** 2
    keep = max(1, round(count * (1 - model.mask)))
    order = noise(batch["draw"], count).argsort(1)
    errors = []
    for b in range(len(images)):
        patches = [
            images[b, :, y : y + model.patch, x : x + model.patch].flatten()
            for y in range(0, images.shape[2], model.patch)
            for x in range(0, images.shape[3], model.patch)
        ]
        seen = order[b, :keep]
        tokens = model.bridge(encode(model.backbone, torch.stack(patches)[None], seen[None]))[0]
        prefix, tokens = tokens[:-keep], tokens[-keep:]
        canvas = [model.mask_token[0, 0]] * count
        for token, place in zip(tokens, seen.tolist(), strict=True):
            canvas[place] = token
        whole = torch.cat([prefix, torch.stack(canvas) + model.position])[None]
        guess = model.pixels(model.decoder(whole))[0, len(prefix) :]
        for place in range(count):
            if place not in seen.tolist():
                target = (patches[place] - patches[place].mean()) / (patches[place].var() + 1e-6).sqrt()
                errors.append(float((guess[place] - target).square().mean()))
    return sum(errors) / len(errors)


@pytest.mark.parametrize("mask", [0.75, 0.5, 0.25])
@torch.no_grad()
def test_mae_is_the_masked_loss_written_out(make_objective, batch, mask):
    model = make_objective("mae", mask=mask).eval()
    model.mask_token.normal_()
    assert float(model(batch)["loss"]) == pytest.approx(masked_loss(model, batch), rel=1e-5)


@torch.no_grad()
def test_mae_hides_the_same_patches_of_an_image_in_any_batch(make_objective, batch):
    """So that parts and processes train what one batch would: every image has the same number of hidden patches."""
    model = make_objective("mae").eval()
    whole = float(model(batch)["loss"])
    alone = [float(model({k: v[i : i + 1] for k, v in batch.items()})["loss"]) for i in range(B)]
    assert whole == pytest.approx(sum(alone) / B, rel=1e-5)


@torch.no_grad()
def test_mae_looks_at_what_is_visible_and_is_judged_on_what_is_hidden(make_objective, batch):
    model = make_objective("mae", mask=0.5).eval()
    keep = noise(batch["draw"], 4).argsort(1)[:, :2]
    assert model.patch == 16
    patches = patchify(model.backbone.normalise(batch["image"]), 16)
    changed = patches.clone()
    for b in range(B):
        hidden = [p for p in range(4) if p not in keep[b].tolist()]
        changed[b, hidden] = 0
    assert torch.equal(encode(model.backbone, changed, keep), encode(model.backbone, patches, keep))


VITS = {
    "class token": {"class_token": True},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "registers": {"class_token": True, "reg_tokens": 4},
    "registers alone": {"class_token": False, "reg_tokens": 2, "global_pool": "avg"},
    "positions of patches only": {"class_token": True, "reg_tokens": 4, "no_embed_class": True},
    "norm first": {"class_token": True, "pre_norm": True},
    "no last norm": {"class_token": True, "final_norm": False},
}


@pytest.mark.parametrize("kind", VITS)
@torch.no_grad()
def test_with_every_patch_visible_the_encoder_is_timms(kind, batch):
    torch.manual_seed(0)
    backbone = Backbone("test_vit", size=32)
    backbone.net = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0, **VITS[kind]
    )
    backbone.dim = 32
    for p in backbone.parameters():
        p.normal_(std=0.2)  # positions and tokens start near zero, where a mistake would not show
    model = MAE(backbone).eval()
    patches = patchify(backbone.normalise(batch["image"]), 8)
    everything = torch.arange(16).expand(B, -1)
    theirs = backbone.net.forward_features(backbone.normalise(batch["image"]))
    torch.testing.assert_close(encode(model.backbone, patches, everything), theirs, rtol=1e-4, atol=1e-5)
    extra = backbone.net.num_prefix_tokens
    backwards = encode(model.backbone, patches, everything.flip(1))[:, extra:].flip(1)
    torch.testing.assert_close(backwards, theirs[:, extra:], rtol=1e-4, atol=1e-5)  # positions go with their patches


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3", "test_vit4"])
@torch.no_grad()
def test_timms_own_vits_are_encoded_as_timm_does(name, batch):
    backbone = Backbone(name, size=32)
    model = MAE(backbone).eval()
    patches = patchify(backbone.normalise(batch["image"]), model.patch)
    theirs = backbone.net.forward_features(backbone.normalise(batch["image"]))
    mine = encode(model.backbone, patches, torch.arange(patches.shape[1]).expand(B, -1))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit_relpos"])
def test_mae_refuses_what_is_no_plain_vit_and_says_what_takes_it(name):
    with pytest.raises(ConfigError, match=f"not {name}; simmim takes"):
        MAE(Backbone(name))


def student_and_teacher(model: DINO, batch: dict[str, torch.Tensor]) -> tuple[list, list]:
    student = [model.head(model.backbone(v)) for key in ("views", "crops") for v in batch[key].unbind(1)]
    taught = [model.teacher.head(model.teacher.backbone(v)) for v in batch["views"].unbind(1)]
    return student, taught


@torch.no_grad()
def test_dino_is_its_cross_entropy_written_out(make_objective, batch):
    model = make_objective("dino", student_temp=0.2, teacher_temp=0.07, warmup=0.0).eval()
    for p in model.teacher.parameters():
        p.add_(0.01 * torch.randn_like(p))  # a teacher that differs
    model.settle.mean.normal_(std=0.1)
    center = model.settle.mean.clone()
    student, taught = student_and_teacher(model, batch)
    terms = []
    for t, teacher in enumerate(taught):
        for s, pupil in enumerate(student):
            if s != t:  # never a view with itself
                target = ((teacher - center) / 0.07).softmax(-1)
                terms.append(-(target * (pupil / 0.2).log_softmax(-1)).sum(-1).mean())
    expected = torch.stack(terms).mean()
    lightlys = DINOLoss(center.numel(), student_temp=0.2)
    lightlys.center.copy_(center)
    torch.testing.assert_close(lightlys(taught, student, teacher_temp=0.07), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model(batch)["loss"], expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_dinos_centre_is_a_running_mean_of_what_the_teacher_says(make_objective, batch):
    model = make_objective("dino", center=0.7).train()  # the teacher's batch norms, too, see the batch
    center = model.settle.mean.clone()
    model.teacher.train()
    with torch.no_grad():
        features = model.teacher.backbone(batch["views"].flatten(0, 1))  # both views in one batch
        taught = model.teacher.head(features)
    model(batch)
    model.after_step(0.1)
    expected = 0.7 * center + 0.3 * taught.mean(0)
    torch.testing.assert_close(model.settle.mean, expected, rtol=1e-4, atol=1e-5)


def test_dinos_teacher_is_the_closed_form_average(make_objective):
    """Each step keeps 1 - share of the teacher, share = (1 - exp(-dp / horizon)) (1 + cos(pi p)) / 2."""
    model = make_objective("dino", "test_resnet", horizon=0.3)
    times = [0.1, 0.15, 0.4, 0.8, 1.0]
    start = {n: p.detach().double().clone() for n, p in model.teacher.backbone.named_parameters()}
    weights: list[dict[str, torch.Tensor]] = []
    for at, progress in enumerate(times):
        generator = torch.Generator().manual_seed(at)
        with torch.no_grad():
            for p in model.backbone.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))
        weights.append({n: p.detach().double().clone() for n, p in model.backbone.named_parameters()})
        model.after_step(progress)
    shares = [
        (1 - math.exp(-(b - a) / 0.3)) * (1 + math.cos(math.pi * b)) / 2
        for a, b in zip([0.0, *times], times, strict=False)
    ]
    kept = [math.prod(1 - s for s in shares[at:]) for at in range(len(shares) + 1)]
    for name, p in model.teacher.backbone.named_parameters():
        expected = kept[0] * start[name]
        for at, share in enumerate(shares):
            expected = expected + share * kept[at + 1] * weights[at][name]
        torch.testing.assert_close(p.detach().double(), expected, rtol=1e-4, atol=1e-5)


def test_dinos_teacher_takes_over_batch_statistics_and_stands_still_at_the_end(make_objective):
    model = make_objective("dino", "test_resnet")
    with torch.no_grad():
        model.backbone.net.bn1.running_mean.add_(3)
    model.after_step(0.9999)
    assert torch.equal(model.teacher.backbone.net.bn1.running_mean, model.backbone.net.bn1.running_mean)
    before = {k: v.clone() for k, v in model.teacher.named_parameters()}
    with torch.no_grad():
        for p in model.backbone.parameters():
            p.add_(1)
    model.after_step(1.0)
    assert all(torch.allclose(v, before[k], atol=1e-5) for k, v in model.teacher.named_parameters())


def test_dinos_teacher_starts_as_the_student_and_no_gradient_reaches_it(make_objective, batch):
    model = make_objective("dino")
    assert all(
        torch.equal(a, b) for a, b in zip(model.backbone.parameters(), model.teacher.backbone.parameters(), strict=True)
    )
    model(batch)["loss"].backward()
    assert all(p.grad is None for p in model.teacher.parameters())


@pytest.mark.parametrize(("images", "expected"), [(10, 256), (2624, 1024), (8192, 4096), (10**7, 16384)])
def test_prototypes_are_sized_to_the_data(images, expected):
    model = DINO(Backbone("test_vit", size=32), images=images)
    assert model.head.directions.shape[0] == expected
    assert DINO(Backbone("test_vit", size=32), prototypes=300).head.directions.shape[0] == 300


@pytest.mark.parametrize("name", ["dino", "dinov2"])
def test_the_target_warms_up_over_its_share_of_the_run(make_objective, batch, name):
    model = make_objective(name, "test_resnet", teacher_temp=0.07, warmup=0.5)
    said = []
    model.settle.forward = lambda cosines, temperature: said.append(temperature) or cosines.softmax(-1)
    for progress in (0.0, 0.25, 0.5, 1.0):
        model.teacher.done.fill_(progress)
        model(batch)
    assert said == pytest.approx([0.04, 0.055, 0.07, 0.07])


@torch.no_grad()
def test_dino_needs_no_small_crops(make_objective, batch):
    model = make_objective("dino").eval()
    only = {k: v for k, v in batch.items() if k != "crops"}
    assert model(only)["loss"].isfinite()


def test_mae_begins_a_random_encoder_where_the_paper_does_and_leaves_a_trained_one():
    fresh, told = Backbone("test_vit", size=32), Backbone("test_vit", size=32)
    told.loaded = Loaded("a file", ("pos_embed",))
    kept = {k: v.clone() for k, v in told.net.state_dict().items()}
    MAE(fresh), MAE(told)
    assert all(torch.equal(v, kept[k]) for k, v in told.net.state_dict().items())
    places = fresh.net.pos_embed[0, fresh.net.num_prefix_tokens :].detach()
    count, width = places.shape
    side = int(count**0.5)
    for row in range(side):
        for column in range(side):
            place = places[row * side + column]
            half = width // 4
            for axis, at in ((0, row), (1, column)):
                bands = 10000.0 ** -(torch.arange(half) / half)
                torch.testing.assert_close(place[axis * half : (axis + 1) * half], (at * bands).sin())
                torch.testing.assert_close(place[(axis + 2) * half : (axis + 3) * half], (at * bands).cos())
    qkv = fresh.net.blocks[0].attn.qkv.weight
    bound = (6 / sum(qkv.shape)) ** 0.5
    assert 0.9 * bound < float(qkv.detach().abs().max()) <= bound


def test_a_random_encoder_begins_the_same_in_either_memory_format():
    kernels = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        net = Backbone("test_vit").to(memory_format=layout)
        torch.manual_seed(1)
        kernels.append(MAE(net).backbone.net.patch_embed.proj.weight.detach())
    assert kernels[0].equal(kernels[1]) and kernels[1].is_contiguous(memory_format=torch.channels_last)


def test_the_class_token_learns_from_what_the_decoder_makes_of_it(make_objective, batch):
    """It is what a class-token ViT is judged by: without a loss that reaches its last state it would learn nothing."""
    model, seen = make_objective("mae").train(), []
    model.backbone.net.norm.register_forward_hook(lambda module, given, out: seen.append(out))
    loss = model(batch)["loss"]
    (gradient,) = torch.autograd.grad(loss, seen[:1])
    assert gradient[:, : model.backbone.net.num_prefix_tokens].abs().sum() > 0
