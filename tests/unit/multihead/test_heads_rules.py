"""Answers keep what they promise, and what is not known has no say in them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from visionft.data.targets import Classes, Flags, Levels, Number
from visionft.multihead import rules
from visionft.multihead.answers import Amount, Flag, Label, Names, answered
from visionft.multihead.floor import Probes, in_units
from visionft.multihead.judge import judge, losses, watched
from visionft.multihead.rules import Band, Cuts, decide, median

KIND = Classes("kind", names=("a", "b"))
MARKS = Flags("marks", names=("x", "y"), listed=True)
DENT = Flags("dent", names=("dent",))
SIZE = Number("size", mean=50.0, scale=10.0)
GRADE = Levels("grade", names=("1", "2", "3"))
EVERY = (DENT, GRADE, KIND, MARKS, SIZE)
SAID = np.array([[0.8, 0.2, 0.5, 0.3, 0.9, 0.1, 0.6, 0.4, 42.0], [0.3, 0.6, 0.3, 0.1, 0.2, 0.8, 0.1, 0.2, 71.0]])
TRUTH = np.array([[1.0, 1, 0, 0, 1, 43.0], [0.0, 0, 1, np.nan, 0, np.nan]])
PLAIN = {target.column: rules.plain(target) for target in EVERY}


@pytest.mark.parametrize("n", [19, 60, 200])
def test_intervals_hold_the_truth_as_often_as_promised_over_many_draws(n):
    shares = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        residuals, later = rng.standard_t(3, n), rng.standard_t(3, 2000)
        band = Band.fit(residuals, 0.9)
        shares.append((np.abs(later) <= band.half).mean())
    exact = np.ceil(0.9 * (n + 1) - 1e-9) / (n + 1)  # Lei et al. 2018: at least the promise, at most 1 / (n + 1) above
    assert np.mean(shares) == pytest.approx(exact, abs=0.008)
    assert exact >= 0.9


def test_too_few_images_promise_no_interval_and_say_so():
    assert Band.fit(np.arange(8.0), 0.9).half is None
    assert "takes 9" in Band.fit(np.arange(8.0), 0.9).words[0]
    assert Band.fit(np.arange(9.0), 0.9).half == 8


def test_the_answer_to_levels_is_the_median():
    p = np.array([[0.6, 0.2, 0.2], [0.3, 0.3, 0.4], [0.1, 0.2, 0.7], [0.5, 0.0, 0.5]])
    assert median(p).tolist() == [0, 1, 2, 0]


def test_every_column_is_answered_in_its_own_words_and_unit():
    ruled = PLAIN | {"size": Band(half=3.0), "marks": Cuts((0.05, 0.5))}
    first, second = answered(["1.png", "2.png"], EVERY, SAID, ruled)
    assert first.values["dent"] == Flag(True, 0.8) and second["dent"] is False
    assert first.values["size"] == Amount(42, 39, 45)
    assert first.values["marks"] == Names(("x",), {"x": 0.6, "y": 0.4})
    assert second["marks"] == ("x",)
    assert (first["grade"], second["grade"]) == ("2", "1")
    assert first.values["kind"] == Label("a", {"a": pytest.approx(0.9), "b": pytest.approx(0.1)})
    cells = first.cells()
    assert cells["image"] == "1.png" and cells["dent"] == "1" and cells["marks"] == "x"
    assert (cells["size"], cells["size/low"], cells["size/high"]) == ("42", "39", "45")
    assert answered(["1.png"], EVERY, SAID[:1], PLAIN)[0].cells()["size/low"] == ""


def test_the_loss_of_answers_is_that_of_the_logits_they_came_from():
    found = losses(EVERY, SAID, TRUTH)
    assert found["kind/loss"] == pytest.approx(-np.log([0.9, 0.8]).mean(), rel=1e-5)
    assert found["dent/loss"] == pytest.approx(-np.log([0.8, 0.7]).mean(), rel=1e-5)
    assert found["marks/loss"] == pytest.approx(-np.log([0.4, 0.4, 0.8]).mean(), rel=1e-5)
    assert found["size/loss"] == pytest.approx(0.5 * 0.1**2, rel=1e-4)  # one is known, a tenth of a deviation away
    cuts = np.log([[0.8, 1 - 0.3], [1 - 0.4, 1 - 0.1]])  # levels 2 and 1: above the first cut and not the second; none
    wanted = -np.mean([np.log(0.8) + np.log(0.7), np.log(0.6) + np.log(0.9)]) / 2
    assert cuts.mean() == pytest.approx(-wanted)
    assert found["grade/loss"] == pytest.approx(wanted, rel=1e-4)
    assert found["log_loss"] == pytest.approx(np.mean([v for k, v in found.items() if k != "log_loss"]))


def test_what_is_not_known_changes_no_number():
    more = np.concatenate([TRUTH, np.full((30, 6), np.nan)])
    said = np.concatenate([SAID, np.random.default_rng(0).dirichlet(np.ones(9), 30)])
    ours, theirs = judge(EVERY, SAID, TRUTH, PLAIN, resamples=2), judge(EVERY, said, more, PLAIN, resamples=2)
    points = {name for name in ours if not name.endswith(("_low", "_high"))}
    assert points == {name for name in theirs if not name.endswith(("_low", "_high"))}
    assert {name: theirs[name] for name in points} == pytest.approx({name: ours[name] for name in points})


def test_no_metric_is_nan_however_little_is_known():
    assert judge(EVERY, SAID, np.full((2, 6), np.nan), PLAIN) == {}
    assert all(np.isfinite(v) for k, v in judge(EVERY, SAID, TRUTH, PLAIN).items() if not k.endswith(("_low", "_high")))


def test_what_early_stopping_may_watch_says_in_its_name_when_lower_is_better():
    from visionft.best import falls

    found = watched(EVERY, SAID, TRUTH, PLAIN)
    assert falls("log_loss") and falls("size/loss") and not falls("gloss/r2")
    assert not [name for name in found if name.endswith(("mae", "rmse", "ece", "_low", "_high"))]
    assert {"log_loss", "grade/kappa", "kind/accuracy", "mean_average_precision"} <= found.keys()


def test_rules_are_fitted_on_what_is_known_and_written_as_json():
    rng = np.random.default_rng(0)
    said, truth = np.repeat(SAID, 40, 0), np.repeat(TRUTH, 40, 0)
    said[:, -1] += rng.normal(0, 2, 80)
    found = decide(EVERY, said, truth, way="auto", coverage=0.9, temper=False)
    residuals = np.abs(said[:40, -1] - 43)
    assert found["size"].half == pytest.approx(np.sort(residuals)[36])  # of 40: the 37th, since 0.9 * 41 is 36.9
    assert found["marks"].cuts == (0.5, pytest.approx(0.3))  # of x no positive is known
    assert all(words.startswith(f"{column}: ") for column, rule in found.items() for words in rule.words)
    facts = json.loads(json.dumps({column: rule.facts() for column, rule in found.items()}))
    assert rules.read(EVERY, facts) == found


def test_numbers_come_back_in_the_unit_they_were_given_in():
    answers = torch.zeros(2, 9)
    answers[:, -1] = torch.tensor([1.5, -2.0])
    assert in_units(EVERY, answers)[:, -1].tolist() == [65.0, 30.0]
    large = Number("when", mean=1.7e9, scale=10.0)
    assert in_units([large], torch.tensor([[0.1]]))[0, 0] == pytest.approx(1.7e9 + 1, abs=1e-3)


def worlds(n: int = 120) -> tuple[torch.Tensor, np.ndarray]:
    """Features, and values of EVERY that are linear in them, with gaps."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, 8))
    columns = [z[:, 0] > 0, np.digitize(z[:, 1], [-0.5, 0.5]), z[:, 2] > 0, z[:, 3] > 0, z[:, 4] > 0, 50 + 10 * z[:, 5]]
    values = np.stack(columns, 1).astype(float)
    values[rng.random(values.shape) < 0.2] = np.nan
    return torch.from_numpy(z).float(), values


def test_probes_find_what_is_there_in_every_column_beside_gaps():
    z, values = worlds()
    known = values.copy()
    probes = Probes.fit(EVERY, z, known)
    found = judge(EVERY, probes.answers(z), known, PLAIN, resamples=2)
    assert found["size/r2"] > 0.999 and found["grade/kappa"] > 0.9
    assert min(found["dent/auroc"], found["kind/auroc"], found["marks/x/auroc"], found["marks/y/auroc"]) > 0.98
    again = Probes.fit(EVERY, z, known, probes.l2)
    torch.testing.assert_close(again.weight, probes.weight, atol=1e-2, rtol=1e-2)


def test_probes_of_columns_that_say_nothing_answer_with_what_was_seen():
    z, values = worlds()
    values[:] = [0.0, 2.0, 1.0, 0.0, 1.0, 60.0]
    values[:60, 0] = np.nan
    said = Probes.fit(EVERY, z, values).answers(z)
    assert np.ptp(said, axis=0).max() < 1e-9
    wanted = judge(EVERY, said, values, PLAIN, resamples=2)
    assert wanted["kind/accuracy"] == wanted["grade/accuracy"] == 1
    assert said[0, 0] == pytest.approx(0.5 / 61, abs=1e-6)  # as if half an image more had been on either side
    assert said[0, -1] == pytest.approx(60)
