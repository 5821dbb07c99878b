"""A logistic regression ends where its gradient vanishes, and scikit-learn ends there, too."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from visionft.evaluation.logistic import Logistic


def samples(n: int, dim: int, classes: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, dim, generator=generator)
    return centres[labels] + 2 * torch.randn(n, dim, generator=generator), labels


def slope(head: Logistic, z, labels, l2: float) -> float:
    """The largest component of the gradient, by autograd in float64."""
    weight, bias = (t.double().requires_grad_() for t in (head.weight, head.bias))
    (F.cross_entropy(F.linear(z.double(), weight, bias), labels) + l2 / 2 * weight.square().sum()).backward()
    return max(float(weight.grad.abs().max()), float(bias.grad.abs().max()))


def fitted(z, labels, classes: int, l2: float) -> Logistic:
    head = Logistic.zero(classes, z)
    head.descend(z, labels, l2, tolerance=1e-4)
    head.settle(z, labels, l2, tolerance=1e-9)
    return head


@settings(deadline=None, max_examples=20)
@given(
    st.integers(2, 5), st.integers(1, 30), st.integers(10, 60), st.sampled_from([1.0, 1e-1, 1e-2, 1e-3]), st.integers(0)
)
def test_it_ends_where_the_gradient_vanishes(classes, dim, n, l2, seed):
    z, labels = samples(n, dim, classes, seed % 1000)
    assert slope(fitted(z, labels, classes, l2), z, labels, l2) < 1e-8


@pytest.mark.parametrize("l2", [1.0, 1e-3])
def test_its_bottom_is_scikit_learns(l2):
    z, labels = samples(120, 12, 3)
    head = fitted(z, labels, 3, l2)
    theirs = LogisticRegression(C=1 / (l2 * 120), tol=1e-10, max_iter=20000).fit(z.double(), labels)
    np.testing.assert_allclose(head.weight, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(head.bias, theirs.intercept_ - theirs.intercept_.mean(), atol=1e-6)


def test_from_afar_steps_that_would_climb_are_halved():
    z, labels = samples(60, 5, 2)
    head = Logistic(30 * torch.randn(2, 5, generator=torch.Generator().manual_seed(1)), torch.tensor([9.0, -9.0]))
    head.settle(z, labels, 1e-2, tolerance=1e-9)
    torch.testing.assert_close(head.weight, fitted(z, labels, 2, 1e-2).weight)


def test_a_separable_problem_has_a_bottom_by_its_ridge():
    z = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]])
    labels = torch.tensor([0, 0, 1, 1])
    assert slope(fitted(z, labels, 2, 1e-3), z, labels, 1e-3) < 1e-8


def test_a_mean_and_a_copy_leave_what_they_came_from():
    one, two = Logistic(torch.ones(2, 3), torch.zeros(2)), Logistic(3 * torch.ones(2, 3), torch.ones(2))
    mean, copy = Logistic.mean([one, two]), one.copy()
    copy.weight += 5
    assert mean.weight.unique().tolist() == [2] and mean.bias.tolist() == [0.5, 0.5]
    assert one.weight.unique().tolist() == [1]
