"""SwAV deals images evenly to prototypes, by Sinkhorn's algorithm, and predicts how from every other view."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import SwaVLoss
from lightly.loss.swav_loss import sinkhorn

from visionft.backbone import Backbone
from visionft.pretraining.swav import SwAV

B, V, D, K = 6, 4, 8, 5


def given(model: SwAV, z: torch.Tensor) -> dict[str, torch.Tensor]:
    """The losses if these were the embeddings, B V D, of two large views and V - 2 small ones."""
    model.embed = lambda *views: z
    return model({"views": z[:, :2], "crops": z[:, 2:]})


@pytest.fixture
def z() -> torch.Tensor:
    return torch.randn(B, V, D, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def make_swav(make_objective):
    def make(**options) -> SwAV:
        return make_objective("swav", **{"prototypes": K, "out": D, **options})

    return make


def dealt(scores: list[list[float]], epsilon: float, rounds: int) -> list[list[float]]:
    """Sinkhorn with loops: prototypes take equal shares of all, then each image spends itself wholly."""
    q = [[math.exp(s / epsilon) for s in row] for row in scores]
    for _ in range(rounds):
        taken = [sum(row[k] for row in q) for k in range(len(q[0]))]
        q = [[x / t for x, t in zip(row, taken, strict=True)] for row in q]
        q = [[x / sum(row) for x in row] for row in q]
    return q


@pytest.mark.parametrize(("temperature", "epsilon"), [(0.1, 0.05), (0.3, 0.2)])
@torch.no_grad()
def test_swav_is_its_swapped_prediction_written_out(make_swav, z, temperature, epsilon):
    model = make_swav(temperature=temperature, epsilon=epsilon)
    prototypes = F.normalize(model.head.directions, dim=1)
    scores = F.normalize(z, dim=-1) @ prototypes.T  # B V K
    terms = []
    for t in range(2):
        codes = dealt(scores[:, t].double().tolist(), epsilon, 3)
        for v in range(V):
            if v != t:  # never a view from itself
                for b in range(B):
                    log_p = (scores[b, v] / temperature).double().log_softmax(-1).tolist()
                    terms.append(-sum(q * p for q, p in zip(codes[b], log_p, strict=True)))
    loss = float(given(model, z)["loss"])
    assert loss == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    large, small = list(scores[:, :2].unbind(1)), list(scores[:, 2:].unbind(1))
    theirs = SwaVLoss(temperature=temperature, sinkhorn_epsilon=epsilon)(large, small)
    assert loss == pytest.approx(float(theirs), rel=1e-5)


def test_codes_spend_every_image_and_fill_every_prototype_evenly(make_swav, z):
    model = make_swav(iterations=100, epsilon=0.2)
    codes = model._codes(F.normalize(z[:, :2], dim=-1), F.normalize(model.head.directions, dim=-1))
    torch.testing.assert_close(codes.sum(2), torch.ones(B, 2))
    torch.testing.assert_close(codes.sum(0), torch.full((2, K), B / K), rtol=1e-4, atol=1e-4)
    assert codes.min() >= 0


def test_hard_dealing_gives_every_image_to_one_prototype(make_swav):
    model = make_swav(epsilon=0.002, prototypes=4)
    at = torch.randn(4, D, generator=torch.Generator().manual_seed(1))
    codes = model._codes(F.normalize(at, dim=-1)[:, None].expand(-1, 2, -1), F.normalize(at, dim=-1).flip(0))
    torch.testing.assert_close(codes, torch.eye(4).flip(0)[:, None].expand(-1, 2, -1))


@torch.no_grad()
def test_a_single_point_is_dealt_to_all_prototypes_alike(make_swav):
    said = given(make_swav(), torch.ones(B, V, D))
    assert float(said["code_entropy"]) == pytest.approx(math.log(K), rel=1e-5)
    assert float(said["loss"]) >= math.log(K)


@torch.no_grad()
def test_one_image_at_each_of_orthogonal_prototypes_costs_least(make_swav):
    model = make_swav(prototypes=D)
    model.head.directions.copy_(3 * torch.eye(D))  # their lengths are nobody's business
    said = given(model, torch.eye(D)[:, None].expand(-1, V, -1))
    assert float(said["loss"]) == pytest.approx(math.log(1 + (D - 1) * math.exp(-1 / 0.1)), rel=1e-3)
    assert float(said["code_entropy"]) == pytest.approx(0, abs=1e-4)


@torch.no_grad()
def test_swav_does_not_care_about_lengths_or_order(make_swav, z):
    model = make_swav()
    loss = given(model, z)["loss"]
    swapped = torch.cat([z[:, :2].flip(1), z[:, 2:].flip(1)], 1)  # large with large, small with small
    for same in (3 * z, z.flip(0), swapped):
        torch.testing.assert_close(given(model, same)["loss"], loss)
    model.head.directions.copy_(model.head.directions.flip(0) * torch.arange(1, K + 1)[:, None])
    torch.testing.assert_close(given(model, z)["loss"], loss)


def test_no_gradient_flows_through_the_codes(make_swav, z):
    model, free = make_swav(), z.clone().requires_grad_()
    given(model, free)["loss"].backward()
    codes = model._codes(F.normalize(z[:, :2], dim=-1), F.normalize(model.head.directions, dim=-1))  # as constants
    fixed = z.clone().requires_grad_()
    log_p = (F.normalize(fixed, dim=-1) @ F.normalize(model.head.directions, dim=-1).T / 0.1).log_softmax(-1)
    pairs = [(t, v) for t in range(2) for v in range(V) if v != t]
    sum(-(codes[:, t] * log_p[:, v]).sum(-1).mean() for t, v in pairs).div(len(pairs)).backward()
    torch.testing.assert_close(free.grad, fixed.grad)


def test_prototypes_stand_still_for_their_share_of_the_run(make_swav, z):
    model = make_swav(frozen=0.1)
    for progress, moves in ((0.0, False), (0.05, False), (0.1, True), (0.5, True)):
        model.zero_grad()
        model.after_step(progress)
        z.grad = None
        given(model, z.requires_grad_())["loss"].backward()
        assert bool(model.head.directions.grad.abs().sum() > 0) is moves
        assert z.grad.abs().sum() > 0


@torch.no_grad()
def test_a_full_queue_is_dealt_along_after_its_share_of_the_run(make_swav, z):
    model = make_swav(queue=2 * B - 2, wait=0.2)  # two batches fill it
    prototypes = F.normalize(model.head.directions, dim=-1)
    batches = [F.normalize(z[:, :2].roll(at, -1), dim=-1) for at in range(4)]

    def alone(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([sinkhorn(v @ prototypes.T, model.iterations, model.epsilon) for v in x.unbind(1)], 1)

    def step(x: torch.Tensor, progress: float) -> torch.Tensor:
        model.done.fill_(progress)
        return model._codes(x, prototypes)

    torch.testing.assert_close(step(batches[0], 0.3), alone(batches[0]))  # empty
    torch.testing.assert_close(step(batches[1], 0.3), alone(batches[1]))  # half full
    torch.testing.assert_close(step(batches[2], 0.1), alone(batches[2]))  # full, and too early
    past = torch.cat([batches[2], batches[1][: B - 2]])  # the newest that it holds
    assert torch.equal(model.queue, past)
    model.eval()
    torch.testing.assert_close(step(batches[3], 0.3), alone(torch.cat([batches[3], past]))[:B])
    assert torch.equal(model.queue, past)  # evaluating leaves it alone


@pytest.mark.parametrize(("images", "expected"), [(10, 64), (2624, 256), (8192, 1024), (10**7, 4096)])
def test_prototypes_are_sized_to_the_data(images, expected):
    backbone = Backbone("test_vit", size=32)
    assert len(SwAV(backbone, images=images).head.directions) == expected
    assert len(SwAV(backbone, images=images, prototypes=300).head.directions) == 300


@torch.no_grad()
def test_swav_needs_no_small_crops(make_objective):
    views = torch.randint(0, 256, (4, 2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert make_objective("swav")({"views": views})["loss"].isfinite()
