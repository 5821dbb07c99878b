"""Group-balanced retraining finds the feature that holds for all groups, and says what that costs."""

import pytest
import torch

from visionft.errors import DataError
from visionft.evaluation.probe import Probe, fit_probe
from visionft.evaluation.rebalance import rebalance

CLASSES = ("landbird", "waterbird")


def waterbirds(n: int, rare: float, seed: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """A core feature, noisy, and a background, clear, that goes with the class in all but a share of the images."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    odd = torch.rand(n, generator=g) < rare
    background = torch.where(odd, 1 - labels, labels)
    core = (2 * labels - 1) + 0.7 * torch.randn(n, generator=g)
    clear = 2.0 * (2 * background - 1) + 0.3 * torch.randn(n, generator=g)
    z = torch.stack([core, clear, *torch.randn(6, n, generator=g)], 1)
    return z, labels, ["land" if b == 0 else "water" for b in background.tolist()]


def recalls(head: Probe, z: torch.Tensor, labels: torch.Tensor, background: list[str]) -> dict[str, float]:
    right = head.logits(z).argmax(1) == labels
    cells = [f"{b}: {CLASSES[y]}" for y, b in zip(labels.tolist(), background, strict=True)]
    return {g: float(right[torch.tensor([cell == g for cell in cells])].float().mean()) for g in sorted(set(cells))}


def test_the_worst_group_of_new_images_gains_what_cross_validation_promised():
    z, labels, _ = waterbirds(1000, 0.04, 0)
    head = fit_probe(z, labels, classes=2)
    made = rebalance(*waterbirds(1500, 0.04, 1), head, classes=CLASSES, draws=3, folds=3)
    test = waterbirds(6000, 0.25, 2)
    then, now = recalls(head, *test), recalls(Probe(made.weight, made.bias, 0.0), *test)
    assert min(then.values()) < 0.65 and min(now.values()) > min(then.values()) + 0.2
    assert max(now.values()) - min(now.values()) < 0.1
    assert made.before == pytest.approx(then, abs=0.12) and made.after == pytest.approx(now, abs=0.12)
    assert made.gain[1] > 0 and "proven" in made.words and set(made.before) == set(now)


def test_the_refitted_layer_does_not_read_the_background():
    held, labels, background = waterbirds(1500, 0.04, 1)
    made = rebalance(held, labels, background, fit_probe(held, labels, classes=2), classes=CLASSES, draws=3, folds=2)
    core, clear = (float((made.weight[1] - made.weight[0])[i].abs()) for i in (0, 1))
    assert clear < 0.25 * core


def test_what_is_said_of_the_new_layer_comes_from_images_it_was_not_fitted_on():
    """With more features than images a refit tells its own images perfectly, whatever their labels."""
    g = torch.Generator().manual_seed(0)
    z, labels = torch.randn(120, 300, generator=g), torch.randint(0, 2, (120,), generator=g)
    made = rebalance(z, labels, ["a"] * 60 + ["b"] * 60, fit_probe(z, labels, classes=2, l2=1e-3), classes=CLASSES)
    assert set(made.before.values()) == {1.0}
    assert all(0.25 < value < 0.75 for value in made.after.values())
    assert made.overall[2] < 0 and made.gain[2] < 0 and ": worse" in made.words


def test_the_same_seed_gives_the_same_layer():
    z, labels, background = waterbirds(600, 0.1, 3)
    head = fit_probe(z, labels, classes=2)
    one, same, other = (
        rebalance(z, labels, background, head, classes=CLASSES, draws=2, folds=2, seed=s) for s in (1, 1, 2)
    )
    assert torch.equal(one.weight, same.weight) and not torch.equal(one.weight, other.weight)


def test_a_group_without_images_of_a_class_is_named():
    z, labels, _ = waterbirds(100, 0.1, 0)
    groups = ["one" if y else "two" for y in labels.tolist()]
    with pytest.raises(DataError, match="0 images of one: landbird"):
        rebalance(z, labels, groups, fit_probe(z, labels, classes=2), classes=CLASSES)
    with pytest.raises(DataError, match="one group"):
        rebalance(z, labels, ["one"] * 100, fit_probe(z, labels, classes=2), classes=CLASSES)
