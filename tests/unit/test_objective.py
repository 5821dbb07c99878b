"""Noise belongs to an image and to nothing else; objectives are found by name, path or class."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visionft.errors import ConfigError
from visionft.objective import OBJECTIVES, Objective, find, noise
from visionft.pretraining.simclr import SimCLR

draws = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20, unique=True).map(
    lambda values: torch.tensor(values, dtype=torch.int64)
)


def test_noise_is_uniform_over_images_over_places_and_over_neighbouring_draws():
    """Chi-squared over 64 bins of equal width: mean 63, standard deviation 11."""
    by_image = noise(torch.arange(4096), 1).flatten()
    by_place = noise(torch.tensor([12345]), 4096).flatten()
    by_seeds = noise(torch.randint(0, 2**63 - 1, (512,), generator=torch.Generator().manual_seed(0)), 8).flatten()
    for numbers in (by_image, by_place, by_seeds):
        assert numbers.min() >= 0
        assert numbers.max() < 1
        counts = numbers.mul(64).long().bincount(minlength=64).double()
        assert ((counts - 64).square() / 64).sum() < 63 + 5 * 11


def test_noise_of_neighbours_is_uncorrelated():
    numbers = noise(torch.arange(2000), 16)
    between = torch.corrcoef(numbers.T) - torch.eye(16)
    assert between.abs().max() < 0.1  # 4.5 standard deviations of 1/sqrt(2000)
    lag = torch.corrcoef(torch.stack([numbers[:-1].flatten(), numbers[1:].flatten()]))
    assert lag[0, 1].abs() < 0.03


@given(draws, st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_noise_of_an_image_does_not_depend_on_its_company_or_place(draw, n):
    together = noise(draw, n)
    alone = torch.cat([noise(d[None], n) for d in draw])
    assert torch.equal(together, alone)
    assert torch.equal(noise(draw.flip(0), n), together.flip(0))
    assert torch.equal(noise(draw, n + 3)[:, :n], together)  # nor on how many numbers are asked for


def test_noise_leaves_the_global_stream_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    noise(torch.arange(5), 5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_name_of_the_table_finds_an_objective(name):
    cls, options = find(name)
    assert issubclass(cls, Objective)
    assert options == {}


def test_a_path_and_a_class_work_like_a_name():
    path = "visionft.pretraining.simclr:SimCLR"
    assert find("simclr") == find(path) == find(SimCLR) == (SimCLR, {})
    assert find({"name": path, "temperature": "2e-1"}) == (SimCLR, {"temperature": 0.2})


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("simclrr", "did you mean simclr"),
        ("zzz", "mae, simmim, ijepa, distill, classify"),
        ("visionft.pretraining.nowhere:X", "cannot be imported"),
        ("visionft.pretraining.simclr:Nothing", "cannot be imported"),
        ({"name": "simclr", "temprature": 1}, "did you mean objective.temperature"),
        ({"name": "simclr", "loss": "infonce"}, "nt_xent|dcl"),
        ({"temperature": 1}, "name"),
        (3, "3"),
    ],
)
def test_a_wrong_choice_says_what_there_is(choice, said):
    with pytest.raises(ConfigError) as error:
        find(choice)
    assert said in str(error.value)
