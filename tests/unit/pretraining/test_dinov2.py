"""DINOv2: each of its terms written out, what is hidden from whom, and the same in any batch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import PatchKernelAlignmentLoss
from lightly.loss.swav_loss import sinkhorn as lightlys

from visionft.backbone import Backbone
from visionft.pretraining.dinov2 import DINOv2, look
from visionft.pretraining.prototypes import Settled, sinkhorn
from visionft.pretraining.tokens import encode_hidden, hide
from visionft.testing import check_objective

B = 4


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)

    def images(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=g)

    return {"views": images(B, 2, 3, 64, 64), "crops": images(B, 3, 3, 32, 32), "draw": torch.arange(30, 30 + B)}


def objective(name: str = "test_vit", **options: object) -> DINOv2:
    torch.manual_seed(0)
    made = DINOv2(Backbone(name, size=64), prototypes=32, **options).eval()
    with torch.no_grad():
        for p in made.teacher.parameters():
            p.add_(0.02 * torch.randn_like(p))  # a teacher that differs
        if made.mask_token is not None:
            made.mask_token.normal_()
    return made


def dealt(cosines: torch.Tensor, temperature: float) -> torch.Tensor:
    """Sinkhorn-Knopp with loops, in float64: rows are what is dealt, columns get as much of it as each other."""
    q = [[math.exp(float(c) / temperature) for c in row] for row in cosines]
    for _ in range(3):
        for k in range(len(q[0])):
            column = sum(row[k] for row in q)
            for row in q:
                row[k] /= column
        q = [[x / sum(row) for x in row] for row in q]
    return torch.tensor(q)


@pytest.mark.parametrize("rows", [3, 40])
def test_sinkhorn_is_lightlys_and_written_out(rows):
    cosines = torch.rand(rows, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(sinkhorn(cosines, 0.05), lightlys(cosines, epsilon=0.05), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(sinkhorn(cosines, 0.05), dealt(cosines, 0.05), rtol=1e-4, atol=1e-6)


def test_sinkhorn_lets_no_prototype_win_and_does_not_mind_what_all_rows_share():
    cosines = torch.rand(40, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    cosines[:, 3] += 0.5  # a favourite
    fair = sinkhorn(cosines, 0.1, rounds=30)
    torch.testing.assert_close(fair.sum(1), torch.ones(40))
    torch.testing.assert_close(fair.sum(0), torch.full((8,), 5.0), rtol=1e-3, atol=1e-3)
    assert (cosines / 0.1).softmax(1).sum(0)[3] > 15  # three times its share
    torch.testing.assert_close(sinkhorn(cosines + torch.randn(8), 0.1, rounds=30), fair, rtol=1e-3, atol=1e-4)


def test_the_centre_is_a_running_mean_that_is_subtracted():
    settle, cosines = Settled("centre", 4, 0.7), torch.randn(6, 4)
    settle.mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    before = settle.mean.clone()
    torch.testing.assert_close(settle(cosines, 0.5), ((cosines - before) / 0.5).softmax(1))
    settle.move()
    torch.testing.assert_close(settle.mean, 0.7 * before + 0.3 * cosines.mean(0))
    torch.testing.assert_close(settle.seen, torch.zeros(5))


def test_the_centre_moves_once_per_step_in_how_ever_many_parts_a_batch_comes():
    whole, parts, cosines = Settled("centre", 4, 0.7), Settled("centre", 4, 0.7), torch.randn(6, 4)
    whole(cosines, 0.5)
    said = torch.cat([parts(part, 0.5) for part in cosines.split((1, 3, 2))])
    torch.testing.assert_close(said, (cosines / 0.5).softmax(1))  # the centre stands still within a step
    for settle in (whole, parts):
        settle.move()
    torch.testing.assert_close(parts.mean, whole.mean)
    before = parts.mean.clone()
    parts.eval()(cosines, 0.5)
    parts.move()
    assert torch.equal(parts.mean, before)  # evaluating moves nothing


def probabilities(model: DINOv2, head: torch.nn.Module, features: torch.Tensor, temperature: float) -> torch.Tensor:
    cosines = head(features)
    return dealt(cosines, temperature) if model.settle.way == "sinkhorn" else (cosines / temperature).softmax(-1)


@pytest.mark.parametrize("targets", ["sinkhorn", "centre"])
@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
@torch.no_grad()
def test_images_are_dinos_cross_entropy_written_out(batch, name, targets):
    model = objective(name, targets=targets, teacher_temp=0.2, student_temp=0.3, warmup=0.0)
    hidden = hide(batch["draw"], 16) if name == "test_vit" else None
    student = list(look(model, batch["views"], hidden)[0].unbind(1))  # the student's views have patches hidden
    student += [model.backbone(crop) for crop in batch["crops"].unbind(1)]
    taught = probabilities(model, model.teacher.head, model.teacher.backbone(batch["views"].flatten(0, 1)), 0.2)
    terms = []
    for b in range(B):
        for t in range(2):
            for v, pupil in enumerate(student):
                if v != t:
                    said = (model.head(pupil)[b] / 0.3).log_softmax(-1)
                    terms.append(-(taught[2 * b + t] * said).sum())
    assert len(terms) == B * (2 * 5 - 2)
    torch.testing.assert_close(model(batch)["dino"], torch.stack(terms).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("targets", ["sinkhorn", "centre"])
@torch.no_grad()
def test_patches_are_ibots_cross_entropy_written_out(batch, targets):
    """Each image's hidden patches are averaged, then the images: one with many counts no more than one with few."""
    model = objective(targets=targets, teacher_temp=0.2, student_temp=0.3, warmup=0.0)
    hidden = hide(batch["draw"], 16)
    net, known = model.backbone.net, model.teacher.backbone.net
    places = [(b, v, n) for b, v, n in hidden.nonzero().tolist()]
    views = [model.backbone.normalise(batch["views"][:, v]) for v in range(2)]
    seen = [encode_hidden(net, views[v], hidden[:, v], model.mask_token)[:, 1:] for v in range(2)]
    truth = [known.forward_features(views[v])[:, 1:] for v in range(2)]
    taught = probabilities(model, model.teacher.patch_head, torch.stack([truth[v][b, n] for b, v, n in places]), 0.2)
    of_image: list[list[torch.Tensor]] = [[] for _ in range(B)]
    for (b, v, n), target in zip(places, taught, strict=True):
        said = (model.patch_head(seen[v][b, n][None])[0] / 0.3).log_softmax(-1)
        of_image[b].append(-(target * said).sum())
    assert len({len(terms) for terms in of_image}) > 1
    expected = torch.stack([torch.stack(terms).mean() for terms in of_image]).mean()
    torch.testing.assert_close(model(batch)["ibot"], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_koleo_is_the_mean_log_distance_to_the_nearest_other_image_written_out(batch):
    model = objective()
    whole = F.normalize(look(model, batch["views"], hide(batch["draw"], 16))[0].double(), dim=-1)
    logs = [
        min(float((whole[b, v] - whole[other, v]).norm()) for other in range(B) if other != b)
        for v in range(2)
        for b in range(B)
    ]
    expected = -sum(math.log(d) for d in logs) / len(logs)
    assert float(model(batch)["koleo"]) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_the_loss_is_the_weighted_sum_of_its_terms(batch):
    said = objective(ibot=0.5, koleo=0.3, kernel=2.0)(batch)
    expected = said["dino"] + 0.5 * said["ibot"] + 0.3 * said["koleo"] + 2 * said["kernel"]
    torch.testing.assert_close(said["loss"], expected)
    assert "kernel" not in objective()(batch)
    assert {"ibot", "kernel"}.isdisjoint(objective("test_resnet", kernel=1.0)(batch))


@torch.no_grad()
def test_the_kernel_term_is_lightlys_of_both_views(batch):
    model = objective(kernel=1.0)
    seen = look(model, batch["views"], hide(batch["draw"], 16))[1].flatten(0, 1)
    truth = look(model.teacher, batch["views"])[1].flatten(0, 1)
    terms = [PatchKernelAlignmentLoss()(a[None], b[None]) for a, b in zip(seen, truth, strict=True)]
    torch.testing.assert_close(model(batch)["kernel"], torch.stack(terms).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit4"])
@torch.no_grad()
def test_hidden_pixels_do_not_reach_the_student(batch, name):
    model = objective(name)
    hidden = hide(batch["draw"], 16)
    covered = hidden.view(B, 2, 1, 4, 4).repeat_interleave(16, 3).repeat_interleave(16, 4)
    other = torch.where(covered, 255 - batch["views"], batch["views"])
    assert not torch.equal(other, batch["views"])
    for mine, theirs in zip(look(model, batch["views"], hidden), look(model, other, hidden), strict=True):
        assert torch.equal(mine, theirs)
    nothing = torch.zeros_like(hidden)
    for mine, theirs in zip(look(model, batch["views"], nothing), look(model, batch["views"]), strict=True):
        assert torch.equal(mine, theirs)  # with nothing hidden the student is timm's network


def test_one_of_two_views_has_a_tenth_to_a_half_of_its_patches_hidden():
    hidden = hide(torch.arange(2000), 196)
    counts = hidden.sum(2)
    assert ((counts > 0).sum(1) == 1).all()  # one view of every image
    assert 900 < int((counts[:, 0] > 0).sum()) < 1100
    shares = counts.amax(1) / 196
    assert shares.min() >= 0.097 and shares.max() <= 0.503
    assert float(shares.mean()) == pytest.approx(0.3, abs=0.01)
    often = hidden.any(1).float().mean(0)  # no place is hidden more often than another
    assert often.min() > 0.25 and often.max() < 0.35


def test_hidden_patches_lie_beside_each_other():
    field = hide(torch.arange(2000), 196).any(1).view(-1, 14, 14)
    together = (field[:, :, :-1] & field[:, :, 1:]).sum() / field[:, :, :-1].sum()
    assert together > 0.5  # 0.36 if each were hidden on its own


def test_an_image_is_masked_alike_in_any_batch():
    draw = torch.arange(40)
    assert torch.equal(hide(draw, 64)[7:9], hide(draw[7:9], 64))


@torch.no_grad()
def test_the_target_warms_up_over_its_share_of_the_run(batch):
    """With one teacher and a temperature that rises, the target's entropy rises."""
    model, features = objective(targets="centre", teacher_temp=0.07, warmup=0.5), torch.randn(9, 64)
    for progress, temperature in [(0.0, 0.04), (0.25, 0.055), (0.5, 0.07), (1.0, 0.07)]:
        model.teacher.done.fill_(progress)
        expected = (model.teacher.head(features) / temperature).softmax(-1)
        torch.testing.assert_close(model._target(model.teacher.head, model.settle, features), expected)


def test_no_gradient_reaches_the_teacher_and_all_of_the_student_learns(batch):
    model = objective().train()
    model(batch)["loss"].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert model.mask_token is not None and model.mask_token.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in model.patch_head.parameters())


@pytest.mark.parametrize("name", ["test_vit2", "test_convnext"])
def test_other_networks_keep_the_promises(batch, name):
    check_objective(DINOv2(Backbone(name, size=64), prototypes=32), batch)
