"""Whether training was worth it: image by image against what was there before, and never more sure than the images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from visionft.evaluation.worth import Worth, cross_validated, held_out, verdict

N = 200


def worth(right: int, first: int = 0) -> Worth:
    """A probe that is right about `right` of the images from place `first` on, and a kNN that is right about half."""
    probe = (np.arange(N) - first) % N < right
    return Worth(np.arange(N) % 2 == 0, probe, 0.5)


@pytest.mark.parametrize(
    ("trained", "base", "said"),
    [
        (worth(180), worth(150), "Worth it: the probe tells 90.0 % of the labelled images right with the averaged"),
        (worth(150), worth(180), "Worse: "),
        (worth(151), worth(150), "No difference that can be told: "),
        (worth(160, first=50), worth(160), "No difference that can be told: "),
    ],
)
def test_the_sentence_is_as_sure_as_the_interval(trained, base, said):
    words = verdict("averaged", trained, {"random": base}).replace("\N{NO-BREAK SPACE}", " ")
    assert words.startswith(said)
    mean, low, high = trained.gain(base)
    assert low <= mean <= high
    assert f"{100 * mean:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}" in words


def test_the_best_of_what_was_there_is_the_rival():
    rows = {"random": worth(100), "ImageNet": worth(170)}
    assert "with the ImageNet ones" in verdict("pretrained", worth(140), rows)
    assert verdict("pretrained", worth(140), rows).endswith("The ImageNet weights are the better start.")


def test_the_gain_is_measured_image_by_image():
    """150 and 160 of the same 200 right differ by the 10; if the wrong ones are others, by chance as well."""
    mean, low, high = worth(160).gain(worth(150))
    assert mean == pytest.approx(0.05)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.05 * 0.95 / N), rel=0.15)
    spread = worth(160, first=60).gain(worth(150))
    assert spread[0] == pytest.approx(0.05)
    assert spread[2] - spread[1] > 2 * (high - low)


def test_the_interval_of_an_accuracy_is_that_of_a_share():
    m = worth(160).metrics(bounds=True)
    half = 1.96 * np.sqrt(0.8 * 0.2 / N)
    assert m["probe_accuracy"] == 0.8
    assert m["probe_accuracy_low"] == pytest.approx(0.8 - half, abs=0.01)
    assert m["probe_accuracy_high"] == pytest.approx(0.8 + half, abs=0.01)


def test_what_is_written_down_is_read_back_exactly():
    one = Worth(np.arange(7) % 3 == 0, np.arange(7) % 2 == 0, 1 / 3)
    again = Worth.of(json.loads(json.dumps(one.facts())))
    assert np.array_equal(again.knn, one.knn)
    assert np.array_equal(again.probe, one.probe)
    assert again.log_loss == one.log_loss


def test_separate_classes_are_told_apart_and_noise_is_not():
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    noise = torch.randn(120, 8, generator=g)
    apart = cross_validated(noise + 20 * torch.eye(3, 8)[labels], labels, 3)
    assert apart.probe.all() and apart.knn.all()
    chance = cross_validated(noise, labels, 3).metrics(bounds=True)
    assert chance["probe_accuracy_low"] < 1 / 3 < chance["probe_accuracy_high"]


def test_an_image_whose_class_has_no_other_is_not_counted():
    labels = torch.tensor([0, 1] * 10 + [2])
    assert len(cross_validated(torch.randn(21, 4), labels, 3).probe) == 20


def clouds(count: int, apart: float, dim: int = 20, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    z = rng.normal(size=(count, dim)) + apart * labels[:, None] / np.sqrt(dim)
    return torch.tensor(z, dtype=torch.float32), torch.tensor(labels)


def test_held_out_answers_do_not_depend_on_the_labels_that_are_held_out():
    z, labels = clouds(80, 1.0)
    said = held_out(z, labels, 2, groups=[f"day {i // 20}" for i in range(80)])
    flipped, one, other = labels.clone(), torch.arange(80) // 20 == 2, torch.arange(80) // 20 == 1
    flipped[one] = 1 - flipped[one]
    again = held_out(z, flipped, 2, groups=[f"day {i // 20}" for i in range(80)])
    assert torch.equal(said.fold, again.fold) and len(said.fold.unique()) == 4
    assert torch.equal(said.knn[one], again.knn[one])
    assert not torch.equal(said.knn[other], again.knn[other])


def test_hits_and_worth_are_those_of_the_answers():
    z, labels = clouds(60, 2.0)
    said = held_out(z, labels, 2)
    worth = cross_validated(z, labels, 2)
    assert np.array_equal(worth.probe, (said.probe.argmax(1) == labels).numpy())
    assert torch.allclose(said.probe.sum(1), torch.ones(60)) and worth.log_loss == said.log_loss
