"""Escapes, overkill and ranking of verdicts whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from visionft.errors import ConfigError, DataError
from visionft.evaluation.intervals import wilson
from visionft.inspection.evaluate import Share, evaluate
from visionft.inspection.evaluated import advice
from visionft.inspection.frame import WHOLE, Frame
from visionft.inspection.promise import Promise
from visionft.inspection.verbs import Costs
from visionft.inspection.verdict import Verdict
from visionft.inspection.where import Scale

PROMISE = Promise.of(np.arange(100), 0.05)  # rejects beyond 95
SIDE = 16


def verdict(score: float, at: int, places: np.ndarray | None = None) -> Verdict:
    heat = np.full((SIDE, SIDE), score) if places is None else places
    photo = np.zeros((SIDE, SIDE, 3), np.uint8)
    p, reject = float(PROMISE.p_values([score])[0]), bool(PROMISE.rejects([score])[0])
    return Verdict(str(at), score, p, reject, (score,), heat, (SIDE, SIDE), WHOLE, Scale(0, 1), None, [photo], 0)


def judged(scores, kinds, **words):
    return evaluate([verdict(score, at) for at, score in enumerate(scores)], kinds, PROMISE, **words)


def test_escapes_overkill_and_kinds_are_counted_at_the_promised_threshold():
    worth = judged([10, 96, 50, 200, 97, 80], ["good", "good", "good", "dent", "dent", "scratch"],
                   groups=["a", "a", "b", "a", "b", "b"])  # fmt: skip
    assert worth.escapes == Share(1, 3) and worth.overkill == Share(1, 3)
    assert worth.kinds == {"dent": Share(2, 2), "scratch": Share(0, 1)}
    assert worth.groups == {"a": (Share(0, 1), Share(1, 2)), "b": (Share(1, 2), Share(0, 1))}
    assert worth.facts()["groups"]["a"]["overkill"] == Share(1, 2).bounded
    assert worth.auroc[0] == pytest.approx(8 / 9) and worth.auroc[1] <= worth.auroc[0] <= worth.auroc[2]
    assert worth.escapes.bounded == (1 / 3, *wilson(1 / 3, 3))
    assert worth.f1_max == pytest.approx(6 / 7)


def test_a_part_costs_what_its_mistakes_cost_as_often_as_they_happen():
    worth = judged([10, 96, 50, 200, 97, 80], ["good", "good", "good", "dent", "dent", "scratch"])
    cost, low, high = worth.cost(Costs(escape=100, overkill=5, defects=0.1))
    assert cost == pytest.approx(0.1 / 3 * 100 + 0.9 / 3 * 5)
    ends = zip(wilson(1 / 3, 3), wilson(1 / 3, 3), strict=True)
    assert (low, high) == pytest.approx([0.1 * escapes * 100 + 0.9 * overkill * 5 for escapes, overkill in ends])
    asked = replace(worth, escapes=Share(0, 3), unsure=(Share(1, 3), Share(0, 3)))
    assert asked.cost(Costs(escape=100, overkill=0, look=2, defects=0.1))[0] == pytest.approx(0.1 / 3 * 2)
    assert worth.cost(Costs(escape=0, overkill=0, defects=0.1)) == (0, 0, 0)
    with pytest.raises(ConfigError, match="costs take both"):
        worth.cost(Costs())
    with pytest.raises(ConfigError, match="costs take both"):
        Costs(escape=3)


def test_what_could_be_either_is_no_escape_and_is_counted_apart():
    kinds = ["good", "good", "dent", "dent", "dent"]
    verdicts = [verdict(score, at) for at, score in enumerate([10, 60, 30, 70, 99])]
    verdicts = [replace(one, unsure=50 < one.score < 95) for one in verdicts]
    assert [one.word for one in verdicts] == ["good", "unsure", "good", "unsure", "reject"]
    worth = evaluate(verdicts, kinds, PROMISE)
    assert worth.escapes == Share(1, 3) and worth.overkill == Share(0, 2)
    assert worth.unsure == (Share(1, 3), Share(1, 2)) and worth.kinds == {"dent": Share(2, 3)}
    assert "Unsure: of defects 1 of 3" in worth.words(PROMISE)


def test_a_photo_that_is_hot_all_over_is_foreign():
    hot, spot = np.full((SIDE, SIDE), 9.0), np.zeros((SIDE, SIDE))
    spot[:4, :4] = 9
    assert verdict(9, 0, hot).foreign and not verdict(9, 0, spot).foreign
    assert not verdict(9, 0, np.full((1, 1), 9.0)).foreign  # where no places are judged
    half = np.zeros((SIDE, SIDE), bool)
    half[:4, :4] = half[-1, -1] = True
    assert replace(verdict(9, 0, spot), frame=Frame(region=half)).foreign  # outside the region nothing counts
    assert "foreign" in str(verdict(9, 0, hot)) and verdict(9, 0, hot).cells()["foreign"] == "yes"


def test_of_a_rejected_photo_something_is_marked_if_its_hottest_place_is_odd_at_all():
    warm = np.zeros((SIDE, SIDE))
    warm[:4, :4], warm[9, 9] = 0.8, 0.7  # the scale marks beyond 1; 3/4 of .8 are .6
    regions = verdict(99, 0, warm).regions
    assert [region.peak for region in regions] == [0.8, 0.7] and regions[0].box == (0, 0, 4, 4)
    assert (verdict(99, 0, warm).overlay != 0).any()
    assert not verdict(9, 0, warm).regions  # it passes
    assert not verdict(99, 0, warm - 1).regions  # no place is hotter than those of good parts
    warm[9, 9] = 1.5
    assert len(verdict(99, 0, warm).regions) == 1  # as of any other photo


def test_a_promise_is_broken_only_where_the_interval_says_so():
    assert judged([99] * 5 + [0] * 95, ["good"] * 100).kept
    assert judged([99] * 7 + [0] * 93, ["good"] * 100).kept
    assert not judged([99] * 30 + [0] * 70, ["good"] * 100).kept


def test_what_one_kind_of_image_leaves_undefined_is_left_out():
    only_good, only_bad = judged([1, 2], ["good", "good"]), judged([1, 200], ["dent", "dent"])
    assert only_good.auroc is None and only_good.escapes.of == 0 and str(only_good.escapes) == "none"
    assert only_bad.kept and only_bad.overkill.of == 0 and "auroc" not in only_bad.facts()
    with pytest.raises(DataError, match="no images"):
        evaluate([], [], PROMISE)


def test_pixel_numbers_count_the_images_whose_defects_are_known():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[4:8, 4:8] = True
    hot = np.where(mask, 5.0, 0.0)
    verdicts = [verdict(200, 0, hot), verdict(300, 1, hot.T[::-1]), verdict(3, 2, np.zeros((SIDE, SIDE)))]
    kinds = ["dent", "dent", "good"]
    worth = evaluate(verdicts, kinds, PROMISE, where=lambda at, height, width: mask if at == 0 else None)
    assert worth.pixel_auroc == 1 and worth.aupro == pytest.approx(1)
    assert evaluate(verdicts, kinds, PROMISE).pixel_auroc is None


def test_what_came_out_is_said_in_words():
    said = judged([10, 96, 50, 200, 97, 80], ["good", "good", "good", "dent", "dent", "scratch"]).words(PROMISE)
    assert "Defects that pass: 1 of 3, 33.3 %" in said
    assert "Of scratch, found least often: 0 of 1" in said


@pytest.mark.parametrize(
    ("rejected", "of", "said"),
    [(0, 9, "The promise held"), (1, 9, "more than was promised"), (9, 9, "The promise did not hold")],
)
def test_a_promise_is_said_to_hold_where_no_more_good_parts_were_rejected(rejected, of, said):
    scores = [200.0] * rejected + [0.0] * (of - rejected)
    assert said in judged(scores, ["good"] * of).words(PROMISE)


def test_whose_defects_pass_is_told_to_show_some_unless_it_has_learnt_from_many():
    worth = judged([10, 80], ["good", "dent"])
    assert "knows good parts alone: photos of 6" in advice(worth, 0) and "shown 6 defects" in advice(worth, 6)
    assert advice(worth, 10) == "" == advice(judged([10, 200], ["good", "dent"]), 0)
