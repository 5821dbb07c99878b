"""A temperature is the one of least loss, and is left out where it would not help on other images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from visionft.errors import DataError
from visionft.evaluation.calibration import LIMITS, calibrate, fit_temperature, log_loss


def drawn(n: int, classes: int, seed: int, sharp: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `sharp` times too large for the labels that are drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (p.cumsum(1) < rng.random((n, 1))).sum(1).clip(max=classes - 1)
    return logits * sharp, labels


@pytest.mark.parametrize("sharp", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_temperature_is_that_of_least_loss(sharp, classes):
    logits, labels = drawn(400, classes, 0, sharp)
    best = minimize_scalar(lambda t: log_loss(logits / t, labels), bounds=LIMITS, method="bounded",
                           options={"xatol": 1e-9}).x  # fmt: skip
    assert fit_temperature(logits, labels) == pytest.approx(best, rel=1e-4)


def test_what_was_made_too_sharp_is_found_with_many_images():
    logits, labels = drawn(20_000, 4, 1, sharp=3.0)
    assert fit_temperature(logits, labels) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_taken_only_where_it_lowers_the_loss_of_held_out_images(seed):
    for sharp in (1.0, 1.05, 3.0):
        logits, labels = drawn(120, 3, seed, sharp)
        found = calibrate(logits, labels)
        assert (found.value != 1) == (found.after < found.before)
        assert found.before == pytest.approx(log_loss(logits, labels))
    assert found.value > 1.5
    assert "too sure" in found.words


def test_perfect_answers_do_not_blow_it_up():
    logits = np.eye(3)[[0, 1, 2, 0, 1, 2]] * 5
    assert fit_temperature(logits, np.array([0, 1, 2, 0, 1, 2])) == pytest.approx(LIMITS[0], rel=1e-3)


def test_too_few_images_leave_the_model_as_it_is_and_none_are_an_error():
    logits, labels = drawn(6, 3, 0, 3.0)
    assert calibrate(logits, labels).value == 1
    with pytest.raises(DataError, match="has not seen"):
        fit_temperature(logits[:0], labels[:0])
