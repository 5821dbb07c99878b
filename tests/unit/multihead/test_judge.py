"""Metrics of several heads by group of images."""

from __future__ import annotations

import numpy as np
import pytest

from visionft.data.targets import Classes, Flags, Levels, Number
from visionft.multihead import rules
from visionft.multihead.judge import change, compared, headline, judge

N = 80
TARGETS = (
    Classes("kind", names=("a", "b", "c")),
    Flags("scratch", names=("scratch",)),
    Flags("marks", names=("line", "blob"), listed=True),
    Flags("spots", names=("spot",), listed=True),
    Levels("grade", names=("1", "2", "3")),
    Number("depth"),
)


@pytest.fixture(scope="module")
def answers():
    """Answers (N A), truth (N V) with holes, and two groups of different size."""
    rng = np.random.default_rng(0)
    kind, grade = rng.dirichlet(np.ones(3), N), rng.dirichlet(np.ones(3), N)
    said = np.column_stack(
        [kind, rng.random((N, 1)), rng.random((N, 2)), rng.random((N, 1)), grade, rng.random((N, 1))]
    )
    flags = rng.integers(0, 2, (N, 4))
    truth = np.column_stack([rng.integers(0, 3, N), flags, rng.integers(0, 3, N), rng.random(N)]).astype(float)
    truth[::7, 0] = truth[1::5, 6] = np.nan
    groups = np.where(rng.random(N) < 0.3, "night", "day")
    return said, truth, groups


def told(answers, where=None, **words):
    said, truth, _ = answers
    where = slice(None) if where is None else where
    plain = {target.column: rules.plain(target) for target in TARGETS}
    return judge(TARGETS, said[where], truth[where], plain, resamples=50, **words)


@pytest.mark.parametrize("group", ["day", "night"])
def test_a_groups_numbers_are_those_of_its_images_alone(answers, group):
    whole, alone = told(answers, groups=answers[2].tolist()), told(answers, answers[2] == group)
    for key in map(compared, TARGETS):
        for end in ("", "_low", "_high"):
            assert whole[f"{key}/{group}{end}"] == alone[f"{key}{end}"]


def test_groups_add_keys_and_change_none(answers):
    whole, plain = told(answers, groups=answers[2].tolist()), told(answers)
    assert {key: whole[key] for key in plain} == plain
    assert len(whole) - len(plain) == 2 * 3 * len(TARGETS)


def test_every_head_has_a_headline_that_is_measured(answers):
    found = told(answers)
    assert all(headline(target) in found for target in TARGETS)
    assert [headline(target) for target in TARGETS[1:4]] == [
        "scratch/average_precision", "marks/mean_average_precision", "spots/spot/average_precision"
    ]  # fmt: skip


def test_the_change_of_the_loss_is_paired_image_by_image(answers):
    said, truth, _ = answers
    better = said.copy()
    better[:, -1] = (said[:, -1] + np.nan_to_num(truth[:, -1], nan=0.5)) / 2  # half of the way to the truth
    mean, low, high = change(TARGETS, said, better, truth)
    assert 0 < low <= mean <= high
    assert change(TARGETS, better, said, truth)[2] < 0 and change(TARGETS, said, said, truth) == (0, 0, 0)
    assert all(np.isnan(change(TARGETS, said, said, np.full_like(truth, np.nan))))


def test_a_metric_that_a_group_leaves_undefined_is_left_out(answers):
    said, truth, _ = answers
    truth = truth.copy()
    groups = ["same" if value == 1 else "other" for value in truth[:, 1]]
    found = told((said, truth, groups), groups=groups)
    assert "scratch/auroc/same" not in found and "kind/accuracy/same" in found
