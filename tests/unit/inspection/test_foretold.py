"""Scorers that regress some features on others: by the conditional Gaussian, and by what can be rebuilt exactly."""

from __future__ import annotations

import pytest
import torch

from visionft.errors import ConfigError
from visionft.inspection import gaussian
from visionft.inspection.student import Student
from visionft.inspection.surroundings import Surroundings

FOLD = torch.arange(12) % 3


def mahalanobis(x: torch.Tensor, cloud: torch.Tensor) -> torch.Tensor:
    """Squared, of N D to the mean of a cloud, M D, in double."""
    flat = cloud.double()
    centred = flat - flat.mean(0)
    off = x.double() - flat.mean(0)
    return (off @ torch.linalg.inv(centred.T @ centred / len(flat)) * off).sum(1)


def test_a_student_scores_by_the_conditional_gaussian(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gaussian, "RIDGE", 0.0)
    torch.manual_seed(0)
    patches = torch.randn(12, 5, 5, 6) @ torch.randn(6, 6) + 3
    student = Student(sees=1 / 3, ridge=1e-9).fit([(patches, FOLD)], 3)
    flat, asked = patches.flatten(0, 2), torch.randn(40, 6)
    exact = mahalanobis(asked, flat) - mahalanobis(asked[:, :2], flat[:, :2])  # of all features, less of those given
    assert torch.allclose(student.score(asked.view(1, 5, 8, 6)).flatten().double().square(), exact, rtol=1e-3)


def test_a_student_notices_what_shallow_features_do_not_explain():
    torch.manual_seed(0)
    shallow, mix = torch.randn(12, 6, 6, 2), torch.randn(2, 4)
    patches = torch.cat([shallow, shallow @ mix + 0.05 * torch.randn(12, 6, 6, 4)], 3)
    student = Student(sees=1 / 3).fit([(patches, FOLD)], 3)
    bright, odd = patches.clone(), patches.clone()
    bright[0, 2, 2] = torch.cat([torch.full((2,), 2.0), torch.full((2,), 2.0) @ mix])  # rare, but as good parts are
    odd[0, 2, 2, 2:] = -odd[0, 2, 2, 2:] + 1
    calm = student.score(patches)[0]
    assert student.score(bright)[0, 2, 2] < calm.max() < student.score(odd)[0, 2, 2]


def test_what_can_be_rebuilt_from_around_it_scores_low_and_a_spot_high():
    torch.manual_seed(0)
    slope = torch.randn(12, 1, 1, 3)
    ramps = slope * torch.arange(9.0)[None, None, :, None].expand(12, 9, 9, 3) + torch.randn(12, 1, 1, 3)
    patches = ramps + 0.01 * torch.randn_like(ramps)
    ours = Surroundings(gap=2).fit([(patches, FOLD)], 3)
    spotted = patches.clone()
    spotted[0, 4, 4] += 2
    calm, found = ours.score(patches)[0], ours.score(spotted)[0]
    assert found.flatten().argmax() == 4 * 9 + 4 and found[4, 4] > 2 * calm.max()
    sees = torch.zeros(9, 9, dtype=torch.bool)
    sees[[4, 2, 6, 4, 4], [4, 4, 4, 2, 6]] = True  # the spot, and the four places that are rebuilt from it
    assert torch.equal(found[~sees], calm[~sees]) and (found[sees] != calm[sees]).all()


def test_a_fold_is_left_out_by_subtraction():
    torch.manual_seed(0)
    patches = torch.randn(12, 4, 4, 5).cumsum(3)
    whole = Surroundings(gap=1).fit([(patches, FOLD)], 3)
    kept = FOLD != 1
    never = Surroundings(gap=1).fit([(patches[kept], FOLD[kept])], 3)
    assert torch.allclose(whole.score(patches, without=1), never.score(patches), rtol=1e-3)


@pytest.mark.parametrize(("make", "says"), [
    (lambda: Student(sees=1.0), "sees=1.0"), (lambda: Student(ridge=0), "ridge=0"),
    (lambda: Surroundings(gap=0), "gap=0"),
])  # fmt: skip
def test_words_that_make_no_sense_are_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
