"""What pretraining is worth: intervals over runs and images, and labels saved, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionft.evaluation.bootstrap import crossed
from visionft.evaluation.efficiency import curve, gains, joined, labels_worth, verdict
from visionft.evaluation.starts import USUAL, Start

LABELS = (10, 30, 100, 300, 1000)


def line(shift: float = 1.0) -> list[tuple[int, float, float, float]]:
    """Accuracy that grows with the logarithm of `shift` times the labels."""
    return [(n, 0.2 + 0.1 * math.log(shift * n), 0.0, 1.0) for n in LABELS]


@settings(max_examples=20, deadline=None)
@given(st.floats(1.0, 9.0))
def test_a_curve_shifted_along_the_labels_is_worth_its_shift(shift):
    assert labels_worth(line(shift), line()) == pytest.approx(shift, rel=1e-6)


def test_accuracies_that_the_base_never_reaches_say_nothing():
    assert labels_worth(line(1000.0), line()) is None


def test_the_mean_is_the_mean_and_its_interval_holds_the_luck_of_the_runs_and_of_the_images():
    """For independent hits the variance of the mean is p(1 - p)/(Sn); for hits that an image decides, p(1 - p)/n."""
    rng = np.random.default_rng(0)
    images = np.repeat(rng.random((1, 400)) < 0.8, 5, axis=0).astype(float)  # every run is right about the same
    mean, low, high = crossed(images)
    assert mean == images.mean()
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(mean * (1 - mean) / 400), rel=0.1)
    runs = np.repeat([[0.0], [1.0], [0.0], [1.0]], 400, axis=1)  # every run is all right or all wrong
    assert crossed(runs)[1:] == (0.0, 1.0)


def rows(start: str, accuracies: dict[int, float], seed: int, images: int = 400) -> list[dict[str, object]]:
    """Cells of one draw of labels; image i is right while i / images < accuracy."""
    return [
        {"start": start, "answer": "probe", "labels": n, "seed": seed,
         "hits": "".join(str(int(i < accuracy * images)) for i in range(images))}
        for n, accuracy in accuracies.items()
    ]  # fmt: skip


def growing(offset: float) -> dict[int, float]:
    return {n: 0.4 + 0.1 * math.log10(n) + offset for n in LABELS}


@pytest.mark.parametrize(
    ("offset", "said"), [(0.05, "better: +5"), (-0.05, "worse: -5"), (0.0, "not proven different: +0.0")]
)
def test_the_verdict_says_what_the_images_say(offset, said):
    pairs = [("imagenet", 0.0), ("imagenet+ssl", offset)]
    cells = [row for seed in range(3) for start, gain in pairs for row in rows(start, growing(gain), seed, images=4000)]
    words = verdict(cells)
    assert words.startswith("Starting from pretrained, SSL makes the linear probe " + said)
    assert ("times as many labels" in words) == (offset > 0)


def test_three_images_won_and_two_lost_prove_nothing():
    base, other = (rows(start, growing(0), 0, images=100) for start in ("imagenet", "imagenet+ssl"))
    for row in other:
        hits = list(str(row["hits"]))
        hits[:2], hits[-3:] = "00", "111"
        row["hits"] = "".join(hits)
    assert "not proven different: +1.0 points" in verdict([*base, *other])


def test_the_verdict_names_the_numbers_of_labels_that_it_holds_for():
    gains = dict(zip(LABELS, (-0.1, 0.0, 0.0, 0.0, 0.1), strict=True))
    better = {n: accuracy + gains[n] for n, accuracy in growing(0).items()}
    pairs = (("imagenet", growing(0)), ("imagenet+ssl", better))
    words = verdict([row for seed in range(3) for start, found in pairs for row in rows(start, found, seed, 4000)])
    assert "not proven different" in words
    assert words.endswith("; better with 1000 (+10.0) labels; worse with 10 (-10.0) labels.")


def test_a_curve_has_one_point_for_every_number_of_labels():
    found = curve([row for seed in range(2) for row in rows("ssl", growing(0), seed)])
    assert [n for n, *_ in found] == list(LABELS)
    for n, mean, low, high in found:
        assert mean == pytest.approx(growing(0)[n], abs=1 / 400)
        assert low < mean < high


def fold(better: str, base: str) -> list[dict[str, object]]:
    starts = [("imagenet", base), ("imagenet+ssl", better)]
    return [{"start": start, "answer": "probe", "fraction": 0.1, "labels": 9, "seed": seed, "hits": hits}
            for start, hits in starts for seed in range(2)]  # fmt: skip


def test_objectives_are_compared_with_the_start_and_with_each_other():
    rows = fold("1" * 40, "0" * 40)
    rows += [{**row, "start": "imagenet+vicreg", "hits": "1" * 20 + "0" * 20} for row in rows[:2]]
    _, first, second = verdict(joined(rows)).split("Starting from pretrained, ")
    assert first.startswith("SSL makes the linear probe better: +100.0 points")
    assert second.startswith("vicreg makes the linear probe better: +50.0 points")
    assert "By SSL rather than vicreg, the linear probe is better: +50.0 points" in second


def test_gains_are_differences_of_the_same_images():
    better, base = fold("1101", "1001")[2:], fold("1101", "1001")[:2]
    more = [{**row, "labels": 20, "hits": "1111"} for row in better], [{**row, "labels": 20} for row in base]
    found = gains([*more[0], *better], [*more[1], *base])
    assert [(labels, mean) for labels, mean, *_ in found] == [(9, 0.25), (20, 0.5)]
    assert [low for *_, low, _ in found] == [0.0, 0.0]  # of four images, as few as none may be drawn that differ


def test_names_of_starts_are_read_as_they_are_meant():
    said = {name: (Start(name).base, Start(name).by, str(Start(name))) for name in (*USUAL, "imagenet+vicreg")}
    assert said == {
        "scratch": ("scratch", "", "scratch"), "ssl": ("scratch", "ssl", "scratch + SSL"),
        "imagenet": ("imagenet", "", "pretrained"), "imagenet+ssl": ("imagenet", "ssl", "pretrained + SSL"),
        "imagenet+vicreg": ("imagenet", "vicreg", "pretrained + vicreg"),
    }  # fmt: skip
    assert not any(Start(name).known for name in ("", "imagenet+", "scratchy", "vicreg", "+vicreg"))


def test_test_images_of_folds_lie_side_by_side():
    rows = joined(fold("11", "10") + fold("1", "0"))
    assert [(row["start"], row["seed"], row["hits"]) for row in rows] == [
        ("imagenet", 0, "100"), ("imagenet", 1, "100"), ("imagenet+ssl", 0, "111"), ("imagenet+ssl", 1, "111"),
    ]  # fmt: skip


def test_what_one_fold_cannot_prove_several_can():
    one = fold("1" * 20, "1" * 18 + "00")
    assert "not proven different: +10.0 points" in verdict(joined(one))
    assert "better: +10.0 points" in verdict(joined(one * 4))
