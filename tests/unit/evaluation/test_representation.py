"""Measures of embeddings have closed forms, do not care for scale or rotation, and the verdict cries no wolf."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.utils.debug import std_of_l2_normalized
from torch import Tensor

from visionft.evaluation import representation as health


def gaussian(n: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def orthonormal(n: int, dim: int) -> Tensor:
    return torch.linalg.qr(gaussian(n, dim)).Q


@pytest.mark.parametrize(("n", "dim"), [(64, 16), (16, 64)])
def test_equal_singular_values_have_full_effective_rank(n, dim):
    z = orthonormal(max(n, dim), min(n, dim))
    assert health.effective_rank(z if n > dim else z.T) == pytest.approx(min(n, dim))


def test_a_constant_embedding_has_effective_rank_one_and_zero_has_none():
    assert health.effective_rank(torch.ones(50, 8) * torch.arange(8)) == pytest.approx(1, abs=1e-4)
    assert health.effective_rank(torch.zeros(50, 8)) == 0


def test_effective_rank_is_the_exponential_of_the_entropy_of_singular_values():
    z = gaussian(40, 10)
    p = torch.linalg.svdvals(z) / torch.linalg.svdvals(z).sum()
    assert health.effective_rank(z) == pytest.approx(float((-(p * p.log()).sum()).exp()), rel=1e-5)


@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 1000), st.floats(1e-4, 1e4))
@settings(max_examples=40, deadline=None)
def test_scale_and_rotation_do_not_matter(n, dim, seed, scale):
    z = gaussian(n, dim, seed)
    turned = scale * z @ orthonormal(dim, dim)
    for measure in (health.effective_rank, health.top_share, health.uniformity):
        assert measure(turned) == pytest.approx(measure(z), rel=1e-3, abs=1e-4)
    assert health.retrieval(turned, turned) == health.retrieval(z, z)
    assert 1 <= health.effective_rank(z) <= min(n, dim) + 1e-6


def test_the_top_share_is_one_on_a_line_and_even_on_a_ball():
    line = torch.arange(20.0)[:, None] * torch.tensor([[1.0, 2.0, 3.0]]) + 5
    assert health.top_share(line) == pytest.approx(1)
    assert health.top_share(torch.cat([torch.eye(8), -torch.eye(8)])) == pytest.approx(1 / 8)


def test_the_spread_is_lightlys_times_the_root_of_the_width():
    z = gaussian(100, 32) + 1
    assert health.std_of_normalised(z) == pytest.approx(float(std_of_l2_normalized(z)) * math.sqrt(32), rel=1e-5)
    assert health.std_of_normalised(gaussian(5000, 32)) == pytest.approx(1, abs=0.02)
    assert health.std_of_normalised(torch.ones(10, 4)) == pytest.approx(0, abs=1e-9)


def test_alignment_runs_from_equal_to_opposite():
    z = gaussian(10, 4)
    assert health.alignment(z, 3 * z) == pytest.approx(0, abs=1e-12)
    assert health.alignment(z, -z) == pytest.approx(4)


def test_uniformity_of_two_opposite_points_and_of_one():
    assert health.uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)
    assert health.uniformity(torch.ones(5, 3)) == pytest.approx(0, abs=1e-9)


def test_retrieval_finds_the_other_view_unless_all_are_alike():
    z = gaussian(200, 32)
    assert health.retrieval(z, z + 0.05 * gaussian(200, 32, seed=1)) == 1
    assert health.retrieval(torch.ones(200, 32), torch.ones(200, 32)) == 0
    assert health.retrieval(z, gaussian(200, 32, seed=2)) < 0.05


def test_describe_survives_embeddings_that_are_not_finite_and_the_verdict_stops():
    z = gaussian(32, 32)
    broken = z.clone()
    broken[3, 3] = math.inf
    words, stop = health.verdict([health.describe(z, z), health.describe(broken, z)], 32, 32)
    assert stop
    assert words.startswith("diverged")


def judge(ranks: list[float], dim: int = 512, samples: int = 2048, top_shares: list[float] | None = None):
    shares = top_shares or [0.4] * len(ranks)
    names = "effective_rank", "top_share", "retrieval"
    history = [dict(zip(names, (*pair, 1.0), strict=True)) for pair in zip(ranks, shares, strict=True)]
    return health.verdict(history, dim, samples)


@pytest.mark.parametrize(
    ("story", "ranks", "word"),
    [
        ("nothing yet", [], "not measured"),
        ("the start alone", [1.01], "start"),
        ("a last layer that starts at zero", [0.0, 0.0, 0.0], "low"),
        ("random weights on small data", [1.5, 1.4, 1.3, 1.3], "low"),
        ("a low start that learns", [1.5, 4.0, 30.0], "healthy"),
        ("SimCLR from random weights: measured", [37.7, 8.1, 7.0, 6.3, 8.4], "narrower"),
        ("ImageNet weights that specialise", [212.0, 150.0, 120.0], "healthy"),
        ("one bad measurement", [200.0, 1.8, 60.0, 110.0], "healthy"),
        ("one bad measurement, just now", [200.0, 1.8], "collapsing"),
    ],
)
def test_ordinary_stories_are_not_called_a_collapse(story, ranks, word):
    words, stop = judge(ranks)
    assert words.startswith(word), story
    assert not stop


@pytest.mark.parametrize("ranks", [[212.0, 1.8, 1.8], [1.5, 1.02, 1.01], [3.0, 90.0, 2.0, 1.2]])
def test_a_lasting_fall_is_called_a_collapse(ranks):
    words, stop = judge(ranks)
    assert stop
    assert words.startswith(f"collapsed to a point: effective rank {ranks[-1]:.1f} of 512")
    assert "third of the learning rate" in words


def test_variance_that_shrinks_to_one_direction_is_called_a_collapse():
    words, stop = judge([6.0, 6.2, 5.9], top_shares=[0.49, 0.97, 0.98])
    assert stop
    assert words.startswith("collapsed to a line")


def test_images_that_differ_by_brightness_only_start_on_a_line_and_are_no_collapse():
    assert not judge([3.0, 3.1, 2.9], top_shares=[0.96, 0.97, 0.98])[1]


def test_the_rank_is_judged_against_what_the_samples_allow():
    assert judge([90.0, 80.0], dim=512, samples=100)[0] == "healthy: effective rank 80 of 100, 90 at the start"
    assert judge([7.0, 1.0, 1.0], dim=512, samples=8) == ("too few to judge: effective rank 1.0 of 8", False)


def test_views_that_find_each_other_no_better_than_at_the_start_show_that_nothing_was_learnt():
    seen = [{"effective_rank": 19.0, "top_share": 0.3, "retrieval": 0.07}]
    blind, wise = ({"effective_rank": 75.0, "top_share": 0.2, "retrieval": share} for share in (0.03, 0.08))
    words, stop = health.verdict([*seen, blind], 128, 128)
    assert words.startswith("nothing learnt yet: 3% of images find their second view, 7% at the start")
    assert not stop
    assert health.verdict([*seen, wise], 128, 128)[0].startswith("healthy")
    assert health.verdict([*seen, blind], 128, 128, pairs=False)[0].startswith("healthy")  # a masked objective
    full = [row | {"retrieval": 0.98 - 0.01 * at} for at, row in enumerate((*seen, blind))]
    assert health.verdict(full, 128, 128)[0].startswith("healthy")  # there is little left to find


def test_embeddings_that_contract_are_called_a_collapse():
    z, point = gaussian(256, 64), torch.ones(64)
    for shrunk in (point + 0.01 * z, torch.outer(z[:, 0], point) + 0.01 * z):  # to a point, to a line
        history = [health.describe(x, x) for x in (z, shrunk, shrunk)]
        assert health.verdict(history, 64, 256)[1]
