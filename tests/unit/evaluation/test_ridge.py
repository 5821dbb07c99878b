"""Ridge by its closed form is ridge by hand, by scikit-learn, and by really leaving each sample out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from visionft.errors import DataError
from visionft.evaluation.probe import scaling
from visionft.evaluation.ridge import GRID, fit_ridge


def world(n: int, dim: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    z = rng.normal(3, 2, (n, dim))
    y = z @ rng.normal(size=dim) / dim**0.5 + rng.normal(0, noise, n) + 7
    return torch.from_numpy(z).float(), torch.from_numpy(y)


@pytest.mark.parametrize(("n", "dim"), [(40, 5), (12, 30)])
def test_it_is_scikit_learns_ridge(n, dim):
    z, y = world(n, dim, 0.5)
    found = fit_ridge(z, y, l2=0.1)
    mean, scale = scaling(z)
    theirs = Ridge(alpha=0.1 * n).fit(((z - mean) / scale).double().numpy(), y.numpy())
    ours = found.logits(z)[:, 0]
    assert ours.numpy() == pytest.approx(theirs.predict(((z - mean) / scale).double().numpy()), abs=1e-4)


@pytest.mark.parametrize(("n", "dim"), [(15, 4), (10, 25)])
def test_the_error_of_leaving_one_out_is_that_of_leaving_each_out(n, dim):
    z, y = world(n, dim, 1.0)
    found = fit_ridge(z, y)
    mean, scale = scaling(z)
    x = ((z - mean) / scale).double().numpy()
    for l2 in (GRID[2], GRID[12], GRID[20]):
        left = []
        for out in range(n):
            rest = np.arange(n) != out
            model = Ridge(alpha=l2 * n).fit(x[rest], y.numpy()[rest])
            left.append(y.numpy()[out] - model.predict(x[out : out + 1])[0])
        assert found.cv[l2] == pytest.approx(np.mean(np.square(left)), rel=1e-6)
    assert found.l2 == min(found.cv, key=found.cv.get)


@pytest.mark.parametrize(("n", "dim"), [(40, 6), (24, 50)])
def test_so_is_that_of_leaving_groups_and_copies_out(n, dim):
    z, y = world(n, dim, 1.0)
    z[n - 1], names = z[0], [f"day {i % 7}" for i in range(n)]  # a copy ties two days together
    found = fit_ridge(z, y, groups=names)
    mean, scale = scaling(z)
    x, unit = ((z - mean) / scale).double().numpy(), np.arange(n) % 7
    unit[unit == unit[n - 1]] = 0
    for l2 in (GRID[2], GRID[12], GRID[20]):
        left = []
        for out in (unit == u for u in np.unique(unit)):
            model = Ridge(alpha=l2 * n).fit(x[~out], y.numpy()[~out])
            left += [*(y.numpy()[out] - model.predict(x[out]))]
        assert found.cv[l2] == pytest.approx(np.mean(np.square(left)), rel=1e-6)


def test_noise_asks_for_a_stronger_penalty():
    clean, noisy = (fit_ridge(*world(60, 20, noise)).l2 for noise in (0.05, 5.0))
    assert noisy > 10 * clean


def test_features_that_explain_everything_are_found():
    z, y = world(200, 10, 0.0)
    assert fit_ridge(z, y).logits(z)[:, 0].numpy() == pytest.approx(y.numpy(), abs=1e-2)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="finite"):
        fit_ridge(torch.randn(3, 2), torch.tensor([1.0, torch.nan, 2.0]))
