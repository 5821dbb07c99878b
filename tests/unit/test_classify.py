"""What a classification costs: the formulas written out, and nothing of them left when it answers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from visionft.backbone import Backbone
from visionft.errors import ConfigError
from visionft.tasks.classify import Classify

COUNTS = [60, 30, 10]


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.tensor([0, 1, 2, 0, 1, 2, 2, 0])


def task(**options) -> Classify:
    torch.manual_seed(0)
    return Classify(Backbone("test_resnet", size=32), classes=3, **options)


def cost(logits: torch.Tensor, labels: torch.Tensor, **options) -> torch.Tensor:
    return task(**options).cost(logits, F.one_hot(labels, 3).float())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_plainly_it_is_cross_entropy(logits, labels, smoothing):
    wanted = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(cost(logits, labels, smoothing=smoothing), wanted)


def test_weights_give_every_class_the_same_say(logits, labels):
    weight = torch.tensor([100 / (3 * n) for n in COUNTS])
    wanted = F.cross_entropy(logits, labels, weight=weight, reduction="sum") / len(labels)
    torch.testing.assert_close(cost(logits, labels, balance="weights", counts=COUNTS), wanted)
    assert float((weight * torch.tensor(COUNTS)).sum()) == pytest.approx(100)


def test_adjusted_logits_learn_the_rest_beside_the_prior(logits, labels):
    prior = torch.tensor(COUNTS).float().div(100).log()
    wanted = F.cross_entropy(logits + prior, labels)
    torch.testing.assert_close(cost(logits, labels, balance="logit", counts=COUNTS), wanted)
    model = task(balance="logit", counts=COUNTS)
    weight, bias = torch.randn(3, model.backbone.dim), torch.randn(3)
    model.start_from(weight, bias)
    torch.testing.assert_close(model.head.bias + model.prior, bias)  # the first loss is the probe's


def test_focus_lowers_what_is_easy(logits, labels):
    p = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(cost(logits, labels, focal=2.0), ((1 - p) ** 2 * -p.log()).mean())


@pytest.mark.parametrize("counts", [None, [1, 2], [0, 50, 50]])
def test_balance_needs_the_counts_of_all_classes_and_bears_an_absent_one(counts, logits, labels):
    if counts == [0, 50, 50]:
        assert cost(logits, labels, balance="weights", counts=counts).isfinite()
        return
    with pytest.raises(ConfigError, match="training images of each of the 3"):
        task(balance="weights", counts=counts)


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_mixing_blends_images_and_targets_alike_while_training_and_never_after(way):
    model = task(**{way: 1.0})
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = {"image": images, "label": torch.tensor([0, 1, 2, 0])}
    plain = model.backbone.normalise(images)
    seen = {}
    model.backbone.forward = lambda x: (
        seen.setdefault("images", x).float().mean((2, 3)) @ torch.ones(3, model.backbone.dim)
    )
    model.cost = lambda logits, target: seen.setdefault("target", target).sum()
    torch.manual_seed(1)
    model.train()(batch)
    share = seen["target"].gather(1, batch["label"][:, None])[:, 0]
    lam = float(share[1])
    assert 0 < lam < 1
    partner = plain.roll(1, 0)
    if way == "mixup":
        torch.testing.assert_close(seen["images"], lam * plain + (1 - lam) * partner)
    else:
        own = (seen["images"] == plain).all(1)
        assert (own | (seen["images"] == partner).all(1)).all()
        assert float(own[1].float().mean()) == pytest.approx(lam, abs=1e-5)
    torch.testing.assert_close(seen["target"].sum(1), torch.ones(4))
    seen.clear()
    model.eval()(batch)
    assert torch.equal(seen["images"], images)
    assert torch.equal(seen["target"], F.one_hot(batch["label"], 3).float())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"mixup": -0.2}, "beta distribution"),
        ({"smoothing": 1.5}, "task.smoothing=1.5 makes no sense"),
        ({"dropout": 2.0}, "task.dropout=2.0 makes no sense"),
        ({"focal": -1.0}, "task.focal=-1.0 makes no sense"),
    ],
)
def test_shares_that_cannot_be_are_refused(words, why):
    with pytest.raises(ConfigError, match=why):
        task(**words)


def test_its_state_does_not_depend_on_how_it_was_trained():
    plain, adjusted = (set(task(**o).state_dict()) for o in ({}, {"balance": "logit", "counts": COUNTS, "mixup": 1.0}))
    assert plain == adjusted


@torch.no_grad()
def test_a_probe_that_becomes_the_head_answers_as_it_is_said_to():
    adjusted, weight, bias = task(balance="logit", counts=COUNTS), torch.randn(3, 5), torch.randn(3)
    adjusted.head = torch.nn.Linear(5, 3)
    z = torch.randn(20, 5)
    adjusted.start_from(weight, bias)
    torch.testing.assert_close(adjusted.answered((z @ weight.T + bias).softmax(1)), adjusted.head(z).softmax(1))
    p = torch.rand(4, 3).softmax(1)
    torch.testing.assert_close(task().answered(p), p)
