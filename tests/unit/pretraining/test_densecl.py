"""DenseCL contrasts images, and each place of an image with the place that looks most like it in the other view."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from visionft.backbone import Backbone
from visionft.pretraining import densecl
from visionft.pretraining.densecl import DenseCL, contrast, look, nearest

B = 5


@pytest.fixture
def make(make_objective) -> Any:
    """In eval mode, with a teacher that differs."""

    def made(model: str = "test_vit", **options: Any) -> Any:
        made = make_objective("densecl", model, **options).eval()
        with torch.no_grad():
            for p in made.teacher.parameters():
                p.add_(0.02 * torch.randn_like(p))
        return made

    return made


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_vit4", "test_efficientnet", "test_convnext"])
@torch.no_grad()
def test_one_pass_gives_the_pooled_features_and_the_map(make, batch, name):
    model = make(name)
    images, passes = batch["views"].flatten(0, 1), []
    pooled, grid = model.backbone(images), model.backbone.maps(images)[0]
    stem = next(m for m in model.backbone.net.modules() if isinstance(m, torch.nn.Conv2d))
    stem.register_forward_hook(lambda *_: passes.append(1))
    z, places, features = look(model, batch["views"])
    assert len(passes) == 1
    assert torch.equal(features.flatten(0, 1), grid.flatten(2).mT)
    assert torch.equal(z.flatten(0, 1), model.head(pooled))
    assert torch.equal(places.flatten(0, 1), model.places(grid.flatten(2).mT))


def by_hand(model: Any, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Both contrasts with loops, as the paper writes them, in both directions."""

    def seen(network: Any, view: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        images = batch["views"][:, view]
        grid = network.backbone.maps(images)[0].flatten(2).mT
        return network.head(network.backbone(images)).double(), network.places(grid).double(), grid.double()

    def like(x: torch.Tensor, y: torch.Tensor) -> float:
        return float(x @ y / x.norm() / y.norm())

    whole, parts = [], []
    for view in range(2):
        q, r, f = seen(model, view)
        k, t, g = seen(model.teacher, 1 - view)
        for i in range(B):
            likes = [math.exp(like(q[i], k[j]) / model.temperature) for j in range(B)]
            whole.append(-math.log(likes[i] / sum(likes)))
            for s in range(r.shape[1]):
                match = max(range(g.shape[1]), key=lambda c, i=i, s=s, f=f, g=g: like(f[i, s], g[i, c]))
                own = math.exp(like(r[i, s], t[i, match]) / model.temperature)
                others = [math.exp(like(r[i, s], t[j].mean(0)) / model.temperature) for j in range(B) if j != i]
                parts.append(-math.log(own / (own + sum(others))))
    return sum(whole) / len(whole), sum(parts) / len(parts)


@pytest.mark.parametrize(("dense", "temperature"), [(0.5, 0.2), (0.0, 0.2), (1.0, 0.2), (0.7, 0.5)])
@torch.no_grad()
def test_densecl_is_its_two_contrasts_written_out(make, batch, dense, temperature):
    model = make(dense=dense, temperature=temperature)
    whole, parts = by_hand(model, batch)
    said = model(batch)
    assert [float(said[k]) for k in ("global", "dense")] == pytest.approx([whole, parts], rel=1e-5)
    assert float(said["loss"]) == pytest.approx((1 - dense) * whole + dense * parts, rel=1e-5)


@torch.no_grad()
def test_places_find_each_other_wherever_they_went_and_however_bright_they_are():
    grid, moved = torch.randn(B, 2, 9, 16), torch.randperm(9)
    torch.testing.assert_close(nearest(grid, grid[:, :, moved] * 3), moved.argsort().expand(B, 2, 9))
    unlike = -grid
    unlike[:, :, 4] = grid[:, :, 2]  # only one place of the other view is like anything
    assert (nearest(grid, unlike)[:, :, 2] == 4).all()


def given(monkeypatch: Any, model: Any, student: tuple[torch.Tensor, ...], teacher: tuple[torch.Tensor, ...]) -> Any:
    """The losses if student and teacher saw this: B 2 D, B 2 S D, B 2 S C."""
    monkeypatch.setattr(densecl, "look", lambda network, _: student if network is model else teacher)
    return {name: float(value) for name, value in model({"views": student[0]}).items()}


@torch.no_grad()
def test_places_are_matched_by_features_and_not_by_position(make, monkeypatch):
    student, teacher = ((torch.randn(B, 2, 6), torch.randn(B, 2, 9, 6), torch.randn(B, 2, 9, 8)) for _ in range(2))
    moved, model = torch.randperm(9), make()
    loss = given(monkeypatch, model, student, teacher)
    other = given(monkeypatch, model, student, (teacher[0], *(x[:, :, moved] for x in teacher[1:])))
    assert other == pytest.approx(loss, rel=1e-5)
    torn = given(monkeypatch, model, student, (*teacher[:2], teacher[2][:, :, moved]))  # features apart from candidates
    assert torn["dense"] != pytest.approx(loss["dense"], rel=1e-3)


@torch.no_grad()
def test_a_single_point_costs_the_logarithm_of_the_batch(make, monkeypatch):
    point = tuple(torch.ones(6).expand(*shape, 6) for shape in ((B, 2), (B, 2, 9), (B, 2, 9)))
    said = given(monkeypatch, make(), point, point)
    assert list(said.values()) == pytest.approx([math.log(B)] * 3, rel=1e-5)


@torch.no_grad()
def test_on_a_map_of_one_place_both_contrasts_are_one(make, batch):
    """A ResNet turns 32 pixels into a single place, which is also the pooled feature."""
    model = make("test_resnet")
    assert model.backbone.maps(batch["views"][:, 0])[0].shape[2:] == (1, 1)
    model.places.load_state_dict(model.head.state_dict())
    model.teacher.places.load_state_dict(model.teacher.head.state_dict())
    said = model(batch)
    assert float(said["dense"]) == pytest.approx(float(said["global"]), rel=1e-5)


@torch.no_grad()
def test_densecl_does_not_care_about_the_order_of_images_or_views(make, batch):
    model = make()
    loss = model(batch)["loss"]
    for views in (batch["views"].flip(0), batch["views"].flip(1)):
        torch.testing.assert_close(model({"views": views})["loss"], loss)


def test_other_places_of_the_same_image_are_no_negatives():
    """So the gradient of one's own pooled places is zero, and that of all others is not."""
    queries, positives = torch.randn(2, B, 2, 9, 6)
    negatives = torch.randn(B, 2, 6, requires_grad=True)
    contrast(queries[:1], positives[:1], negatives[:1], 0.2).backward()
    assert not negatives.grad.any()
    negatives.grad = None
    contrast(queries, positives, negatives, 0.2).backward()
    assert negatives.grad.abs().min() > 0


def test_gradients_come_from_queries_alone(make, batch):
    model = make()
    model(batch)["loss"].backward()
    q, r, f = look(model, batch["views"])
    with torch.no_grad():
        k, t, g = (x.flip(1) for x in look(model.teacher, batch["views"]))
        match = nearest(f, g)[..., None].expand_as(t)
    q, r, k, p, n = (F.normalize(x, dim=-1) for x in (q, r, k, t.gather(2, match), t.mean(2)))
    whole = parts = 0.0
    for v in range(2):
        whole = whole + F.cross_entropy(q[:, v] @ k[:, v].T / 0.2, torch.arange(B)) / 2
        for i in range(B):
            logits = torch.stack([(r[i, v] * p[i, v]).sum(-1), *(r[i, v] @ n[j, v] for j in range(B) if j != i)], 1)
            parts = parts + F.cross_entropy(logits / 0.2, torch.zeros(len(logits)).long()) / (2 * B)
    learned = [x for x in model.parameters() if x.requires_grad]
    for x, grad in zip(learned, torch.autograd.grad((whole + parts) / 2, learned), strict=True):
        torch.testing.assert_close(x.grad, grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("name", "side"), [("test_resnet", 32), ("test_resnet", 64), ("test_vit", 32)])
def test_a_map_of_few_places_is_said_and_the_size_it_names_is_enough(name, side):
    note = DenseCL(Backbone(name, size=side)).note
    places = Backbone(name, size=side).eval().maps(torch.zeros(1, 3, side, side))[0].shape[-1]
    assert f"{name} has a map of {places}x{places} places at {side} pixels" in note
    enough = int(note.split("size=")[1].split()[0])
    assert Backbone(name, size=enough).eval().maps(torch.zeros(1, 3, enough, enough))[0].shape[2:] == (4, 4)
    assert DenseCL(Backbone(name, size=enough)).note == ""
