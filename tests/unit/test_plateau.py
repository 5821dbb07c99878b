"""A rate that waits for a plateau: torch's own rule, all groups in proportion, and resuming that changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from visionft import checkpoint
from visionft.best import Plateau
from visionft.errors import ConfigError
from visionft.recipe import Optim, Recipe
from visionft.train import fit


def recipe(metric: str = "log_loss", **changes) -> Recipe:
    told = {"schedule": "plateau", "warmup": 0.0, "lr": 0.1, **changes}
    return Recipe(steps=12, batch=8, precision="fp32", log_every=1, eval_every=1, metric=metric, optim=Optim(**told))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=40),
    st.integers(1, 4),
    st.floats(0.05, 0.9),
    st.floats(0, 0.3),
    st.sampled_from(["log_loss", "accuracy"]),
)
@settings(max_examples=80, deadline=None)
def test_it_is_torchs_rule(values, wait, factor, final, metric):
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=2.0)
    mode = "min" if metric == "log_loss" else "max"
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode=mode, factor=factor, patience=wait - 1, threshold=0.0, min_lr=2.0 * final, eps=0.0
    )
    ours = Plateau(recipe(metric, plateau=wait, factor=factor, final=final))
    for value in values:
        theirs.step(float(value))
        ours.see({metric: float(value)})
        assert 2.0 * ours.share == pytest.approx(optimizer.param_groups[0]["lr"])


def test_other_schedules_watch_nothing():
    plateau = Plateau(recipe(schedule="constant"))
    for _ in range(9):
        plateau.see({})
    assert plateau.share == 1


def losses(values: list[float]):
    """An evaluation that has been given its answers by the step of the optimizer; the start comes first."""
    said = iter(values)
    return lambda model: {"log_loss": next(said)}


VALUES = [9, 8, 7, 7, 7, 6, 6, 6, 5, 5, 5, 5, 5]  # of the start and of twelve steps


def test_every_group_falls_in_proportion_after_the_evaluation_that_said_so(make_objective, make_data):
    model, rates = make_objective("classify"), []
    told = recipe(plateau=2, factor=0.5, warmup=0.25)
    told = Recipe(**{**vars(told), "tune": {r"backbone\..*": 0.1, r".*": 1.0}})
    seen = []
    step = torch.optim.AdamW.step

    def watched(self, *given):
        seen.append([group["lr"] for group in self.param_groups])
        return step(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", watched)
        fit(model, make_data(model), told, evaluate=losses(VALUES), log=lambda s, m: rates.append(m.get("lr")))
    left = [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125]
    risen = [min(1.0, (at + 0.5) / 12 / 0.25) for at in range(12)]
    assert [max(rates) for rates in seen] == pytest.approx([0.1 * a * b for a, b in zip(left, risen, strict=True)])
    assert all(min(rates) == pytest.approx(0.1 * max(rates)) for rates in seen)
    assert [rate for rate in rates if rate is not None] == pytest.approx([max(rates) for rates in seen])


def test_an_interrupted_run_falls_when_the_unbroken_one_does(make_objective, make_data, tmp_path):
    class Killed(BaseException):
        pass

    def dies(step: int, metrics: dict) -> None:
        if step == 5 and "loss" in metrics:
            raise Killed

    straight, first, second = (make_objective("classify") for _ in range(3))
    told = recipe(plateau=3, factor=0.1)
    fit(straight, make_data(straight), told, evaluate=losses(VALUES))
    with pytest.raises(Killed):
        fit(first, make_data(first), told, out=tmp_path, evaluate=losses(VALUES), log=dies)
    assert checkpoint.last_step(tmp_path) == 4
    fit(second, make_data(second), told, out=tmp_path, evaluate=losses(VALUES[5:]))
    for key, value in straight.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key


def test_what_cannot_be_watched_is_said_before_a_step_is_made(make_objective, make_data):
    model, heard = make_objective("classify"), []
    with pytest.raises(ConfigError, match="no evaluations"):
        fit(model, make_data(model), recipe())
    with pytest.raises(ConfigError, match=r"metric=f1.*log_loss"):
        fit(model, make_data(model), recipe("f1"), evaluate=losses([1.0]), log=lambda *said: heard.append(said))
    assert heard == []


@pytest.mark.parametrize("wrong", [{"plateau": 0}, {"factor": 1.0}, {"factor": 0.0}, {"final": 2.0}])
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"optim.{next(iter(wrong))}"):
        recipe(**wrong)
