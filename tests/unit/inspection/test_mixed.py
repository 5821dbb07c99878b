"""Labelled defects weigh the eyes and teach a head, gently; the promise holds afterwards as it did before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.unit.inspection.striped import parts
from visionft.errors import DataError
from visionft.evaluation.probe import fit_probe
from visionft.inspection.head import Head, described
from visionft.inspection.inspector import Inspector
from visionft.inspection.weights import chosen, weighed

WORDS = {"backbone": "test_resnet", "weights": "none", "false_reject": 0.05, "quiet": True,
         "eyes": [{"name": "patches", "layers": [1, 2]}]}  # fmt: skip


def smooth(count: int, seed: int) -> list[np.ndarray]:
    """Defective as a whole: without the noise of good parts."""
    rng = np.random.default_rng(seed)
    return [(image * 0.5 + rng.integers(40, 60)).astype(np.uint8) for image in parts(count, seed)]


def test_weights_go_to_the_eye_that_tells_defects_apart_and_stay_where_all_do():
    rng = np.random.default_rng(0)
    good, bad = rng.normal(size=(300, 3)), rng.normal(size=(8, 3))
    prior = np.array([0.5, 0.5, 0.0])
    alike = weighed(good, bad * 0.3 + 2, prior)
    assert alike[:2].min() > alike[2]
    bad[:, 2] += 6
    found = weighed(good, bad, prior)
    assert found[2] == found.max() and (found >= 0).all()
    assert weighed(good, bad, prior, pull=1e6) == pytest.approx(prior, abs=1e-3)


def test_weights_are_where_the_loss_has_its_minimum():
    rng = np.random.default_rng(1)
    good, bad, prior = rng.normal(size=(50, 2)), rng.normal(1, 1, size=(20, 2)), np.array([0.3, 0.7])

    def loss(weights: np.ndarray, bias: float) -> float:
        value = np.logaddexp(0, good @ weights + bias).mean() / 2 + np.logaddexp(0, -(bad @ weights + bias)).mean() / 2
        return float(value + 1 / 20 / 2 * ((weights - prior) ** 2).sum())

    found = weighed(good, bad, prior)
    biases = np.linspace(-3, 3, 601)
    least = min(loss(found, b) for b in biases)
    for step in (np.array([0.02, 0]), np.array([0, 0.02])):
        assert all(min(loss(found + sign * step, b) for b in biases) >= least - 1e-6 for sign in (1, -1))


def test_weights_go_as_far_as_unseen_defects_prove_them_better():
    rng = np.random.default_rng(2)
    good, prior = rng.normal(size=(300, 3)), np.array([0.5, 0.5, 0.0])
    blind = np.concatenate([rng.normal(size=(8, 2)), rng.normal(8, 1, (8, 1))], 1)  # only the third eye sees these
    new = weighed(good, blind, prior)
    found = chosen(good, blind, prior)
    assert found == pytest.approx(new * np.linalg.norm(prior) / np.linalg.norm(new))
    clear = np.concatenate([rng.normal(9, 1, (8, 2)), rng.normal(size=(8, 1))], 1)  # found by the weights before
    assert np.array_equal(chosen(good, clear, prior), prior)
    some = [chosen(good, rng.normal(1, 1, (8, 3)), prior) for _ in range(20)]  # all eyes see a little
    gone = [np.linalg.norm(one - prior) for one in some]
    assert np.median(gone) < 0.3 < np.linalg.norm(found - prior)


def taught(good: torch.Tensor, bad: torch.Tensor, left: int = -1) -> Head:
    head = Head()
    head.begin(5)
    for patches, defective in ((good, False), (bad, True)):
        fold = torch.arange(len(patches)) % 5
        kept = fold != left
        head.take(patches[kept], fold[kept], bad=defective)
    head.settle()
    return head


def test_a_head_left_without_a_fold_is_one_that_never_saw_it():
    torch.manual_seed(0)
    good, bad = torch.randn(20, 3, 3, 5), torch.randn(10, 3, 3, 5) + 0.7
    whole, without = taught(good, bad), taught(good, bad, left=2)
    without.known[None] = fit_probe(without.rows, without.bad.long(), classes=2, l2=whole.fitted().l2)
    assert torch.allclose(whole.score(good, without=2), without.score(good), rtol=1e-2)
    assert (whole.score(bad).log().mean() - whole.score(good).log().mean()) > 1
    again = Head().restore(whole.state())
    assert torch.equal(again.score(bad), whole.score(bad))
    assert described(good).shape == (20, 20)
    with pytest.raises(DataError, match="learnt from none"):
        Head().fit([(good, torch.arange(20) % 5)], 5).score(good)


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    return Inspector.fit(parts(60, 0), **WORDS)


def test_defects_that_the_eyes_overlook_are_found_once_some_are_shown(inspector, tmp_path):
    unseen, calm = smooth(20, 9), parts(100, 5)
    before = inspector.judge(unseen, [""] * 20)
    taught = Inspector.load(inspector.save(tmp_path / "a")).add_defects(smooth(12, 3), good=parts(60, 0), quiet=True)
    after = taught.judge(unseen, [""] * 20)
    assert np.mean([v.p_value for v in after]) <= np.mean([v.p_value for v in before])
    assert all(v.reject for v in after)
    assert np.mean([v.reject for v in taught.judge(calm, [""] * 100)]) <= taught.promise.bound
    again = Inspector.load(taught.save(tmp_path / "b"))
    assert [v.score for v in again.judge(unseen[:3], [""] * 3)] == [v.score for v in after[:3]]
    more = again.add_defects(smooth(16, 3), good=parts(60, 0), quiet=True)  # a head is taught anew
    assert all(v.reject for v in more.judge(unseen, [""] * 20))


def test_too_few_defects_choose_nothing(inspector):
    with pytest.raises(DataError, match="takes 6 photos of them, and there are 5"):
        inspector.add_defects(smooth(5, 0), good=parts(60, 0), quiet=True)
    with pytest.raises(DataError, match="the good photos are needed again"):
        inspector.add_defects(smooth(6, 0), quiet=True)
