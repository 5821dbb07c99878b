"""The shape of the rate over a run, the optimizers, and an average of the weights that does not count steps."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from visionft.errors import ConfigError
from visionft.optim import Average, build, set_rate, swapped
from visionft.recipe import Optim, Recipe

CPU = torch.device("cpu")


def rate(progress: float, *, peak: float = 2.0, **changes: float) -> float:
    weight = nn.Parameter(torch.ones(1))
    optimizer = build([{"params": [weight], "lr": peak, "weight_decay": 0.0}], Optim(name="sgd"), CPU)
    set_rate(optimizer, progress, Optim(**changes))
    return float(optimizer.param_groups[0]["lr"])


def test_the_rate_rises_linearly_and_falls_by_half_a_cosine():
    assert rate(0.0, warmup=0.1) == 0
    assert rate(0.05, warmup=0.1) == pytest.approx(1.0)
    assert rate(0.1, warmup=0.1) == pytest.approx(2.0)
    assert rate(0.55, warmup=0.1) == pytest.approx(1.0)
    assert rate(1.0, warmup=0.1) == pytest.approx(0.0, abs=1e-12)
    assert rate(0.1 + 0.9 / 3, warmup=0.1) == pytest.approx(2 * (1 + math.cos(math.pi / 3)) / 2)


def test_final_is_the_share_of_the_peak_that_is_left():
    assert rate(1.0, final=0.1) == pytest.approx(0.2)
    assert rate(0.55, warmup=0.1, final=0.1) == pytest.approx((2.0 + 0.2) / 2)


def test_no_warmup_and_nothing_but_warmup():
    assert rate(0.0, warmup=0.0) == pytest.approx(2.0)
    assert rate(1.0, warmup=1.0) == pytest.approx(2.0)
    assert rate(0.25, warmup=1.0) == pytest.approx(0.5)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_rate_stays_between_nothing_and_its_peak(progress, warmup, final):
    assert 0 <= rate(progress, warmup=warmup, final=final) <= 2 + 1e-12


def test_every_group_keeps_its_proportion():
    weights = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    groups = [{"params": [w], "lr": lr, "weight_decay": 0.0} for w, lr in zip(weights, (1.0, 0.1), strict=True)]
    optimizer = build(groups, Optim(name="sgd"), CPU)
    for progress in (0.01, 0.3, 0.7):
        set_rate(optimizer, progress, Optim())
        fast, slow = (group["lr"] for group in optimizer.param_groups)
        assert slow == pytest.approx(0.1 * fast)


def step(optim: Optim, start: torch.Tensor, gradients: list[torch.Tensor], decay: float = 0.1) -> torch.Tensor:
    weight = nn.Parameter(start.clone())
    optimizer = build([{"params": [weight], "lr": 0.5, "weight_decay": decay}], optim, CPU)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


def some(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_adamw_is_the_papers():
    start, gradients = some(0, 4, 3), [some(1, 4, 3), some(2, 4, 3)]
    weight, m, v = start.double(), 0.0, 0.0
    for t, g in enumerate((g.double() for g in gradients), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        weight = weight * (1 - 0.5 * 0.1)  # decoupled
        weight = weight - 0.5 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    torch.testing.assert_close(step(Optim(name="adamw"), start, gradients), weight.float())


def test_sgd_is_momentum_with_l2():
    start, gradients = some(0, 4, 3), [some(1, 4, 3), some(2, 4, 3)]
    weight, velocity = start, 0.0
    for g in gradients:
        velocity = 0.8 * velocity + g + 0.1 * weight
        weight = weight - 0.5 * velocity
    torch.testing.assert_close(step(Optim(name="sgd", momentum=0.8), start, gradients), weight)


def test_lars_is_lightlys():
    from lightly.utils.lars import LARS

    start, gradients = some(0, 4, 3), [some(1, 4, 3), some(2, 4, 3)]
    weight = nn.Parameter(start.clone())
    theirs = LARS([weight], lr=0.5, momentum=0.9, weight_decay=0.1)
    for gradient in gradients:
        weight.grad = gradient.clone()
        theirs.step()
    assert torch.equal(step(Optim(name="lars"), start, gradients), weight.detach())


def test_lars_scales_each_weight_by_its_own_norms_and_leaves_biases_alone():
    start, gradient = some(0, 4, 3), some(1, 4, 3)
    local = 0.001 * start.norm() / (gradient.norm() + 0.1 * start.norm() + 1e-8)
    torch.testing.assert_close(
        step(Optim(name="lars"), start, [gradient]), start - 0.5 * local * (gradient + 0.1 * start)
    )
    torch.testing.assert_close(step(Optim(name="lars"), start, [gradient], decay=0.0), start - 0.5 * gradient)


class Small(nn.Module):
    """One weight and one buffer."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), value, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(1))


def moved(model: Small, value: float) -> Small:
    with torch.no_grad():
        model.weight.fill_(value)
        model.seen.fill_(value)
    return model


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=30), st.floats(0.02, 1))
@settings(max_examples=60, deadline=None)
def test_the_average_is_its_closed_form(gaps, horizon):
    """The start weighs exp(-p/h), and what was there between two calls its own slice of the exponential."""
    times = torch.tensor([0.0, *gaps]).cumsum(0) / sum(gaps)
    model = Small(5.0)
    average = Average(model, horizon)
    end, expected = float(times[-1]), 5.0 * math.exp(-float(times[-1]) / horizon)
    for at in range(1, len(times)):
        average.update(moved(model, float(at)), float(times[at]))
        slice_ = math.exp((float(times[at]) - end) / horizon) - math.exp((float(times[at - 1]) - end) / horizon)
        expected += at * slice_
    assert average.state["weight"].tolist() == pytest.approx([expected] * 3, rel=1e-6)
    assert average.state["seen"].tolist() == [len(gaps)]  # buffers are copied, not averaged


@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_the_start_is_forgotten_alike_in_any_number_of_steps(steps):
    model = Small(1.0)
    average = Average(model, 0.2)
    moved(model, 0.0)
    for at in range(1, steps + 1):
        average.update(model, at / steps)
    assert float(average.state["weight"][0]) == pytest.approx(math.exp(-1 / 0.2), rel=1e-6)


def test_the_average_and_the_model_share_no_memory():
    model = Small(1.0)
    average = Average(model, 0.5)
    moved(model, 7.0)
    assert average.state["weight"].tolist() == [1.0] * 3
    average.update(model, 0.5)
    assert model.weight.tolist() == [7.0] * 3


def test_weights_are_lent_for_a_block_and_given_back_even_after_an_error():
    model = moved(Small(), 1.0)
    other = copy.deepcopy(moved(Small(), 2.0).state_dict())
    with pytest.raises(RuntimeError, match="inside"), swapped(model, other):
        assert model.weight.tolist() == [2.0] * 3
        raise RuntimeError("inside")
    assert model.weight.tolist() == [1.0] * 3
    with swapped(model, None):
        assert model.weight.tolist() == [1.0] * 3


def test_linear_and_constant_rates():
    assert rate(0.05, warmup=0.1, schedule="linear") == pytest.approx(1.0)
    assert rate(0.1 + 0.9 / 3, warmup=0.1, schedule="linear") == pytest.approx(2 * 2 / 3)
    assert rate(1.0, warmup=0.1, schedule="linear", final=0.25) == pytest.approx(0.5)
    assert [rate(p, warmup=0.1, schedule="constant") for p in (0.1, 0.5, 1.0)] == [pytest.approx(2.0)] * 3


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_one_cycle_lowers_momentum_where_the_rate_is_high(name):
    weight, optim = nn.Parameter(torch.ones(1)), Optim(name=name, schedule="one-cycle", warmup=0.25)
    optimizer = build([{"params": [weight], "lr": 2.0, "weight_decay": 0.0}], optim, CPU)
    group = optimizer.param_groups[0]
    seen = []
    for progress in (0.0, 0.125, 0.25, 0.625, 1.0):
        set_rate(optimizer, progress, optim)
        seen.append((group["lr"], group["betas"][0] if name == "adamw" else group["momentum"]))
    rates, momenta = zip(*seen, strict=True)
    assert rates == pytest.approx((2 / 25, 2 * (1 / 25 + 24 / 50), 2.0, 1.0, 0.0), abs=1e-12)
    assert momenta == pytest.approx([0.95 - 0.1 * r / 2 for r in rates])
    if name == "adamw":
        assert group["betas"][1] == 0.999


@pytest.mark.parametrize("final", [1e-3, 1e4])
def test_an_exponential_rate_falls_or_rises_by_the_same_factor_everywhere(final):
    at = [rate(0.2 + 0.8 * x / 4, warmup=0.2, schedule="exponential", final=final) for x in range(5)]
    assert at == pytest.approx([2 * final ** (x / 4) for x in range(5)])
    assert rate(0.1, warmup=0.2, schedule="exponential", final=final) == pytest.approx(1.0)


def test_an_exponential_rate_needs_an_end_and_others_do_not_rise():
    with pytest.raises(ConfigError, match=r"optim.final=0.0 makes no sense: it must be above 0"):
        Recipe(steps=1, optim=Optim(schedule="exponential"))
    with pytest.raises(ConfigError, match=r"optim.final=2"):
        Recipe(steps=1, optim=Optim(schedule="cosine", final=2.0))
