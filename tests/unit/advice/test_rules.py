"""Each rule speaks when its numbers say so, is silent when they do not, and shows the numbers it spoke from."""

from __future__ import annotations

import dataclasses

import pytest

from tests.unit.advice.cases import PLAIN, with_data, with_measured
from visionft.advice.commands import finetuning, pretraining
from visionft.advice.facts import AtSize, Facts, Near, Suspect, Unlabeled
from visionft.advice.rules import best_size, findings


def said(facts: Facts) -> dict[str, str]:
    """Topic -> everything said of it."""
    return {one.topic: f"{one.level}: {one.what} {one.evidence} {one.do}" for one in findings(facts)}


def at(size: int, low: float, high: float) -> AtSize:
    return AtSize(size=size, probe=(0.9, 0.88, 0.92), gain=((low + high) / 2, low, high), ms=16.0)


def test_ordinary_images_give_nothing_to_act_upon():
    assert {one.topic for one in findings(PLAIN)} == {"distance", "more labels"}
    assert all(one.level == "know" for one in findings(PLAIN))


@pytest.mark.parametrize(
    ("facts", "topic", "words"),
    [
        (with_data(bad={"a/b/x.png": "is no image"}), "files", ["1 file cannot", "b/x.png is no image", "bad=skip"]),
        (with_data(conflicts=(("g/1.png", "b/1.png"),)), "labels", ["1 picture is filed", "g/1.png = b/1.png"]),
        (with_data(leaks=(("train/a", "test/a"),)), "leaks", ["act", "train/a = test/a"]),
        (with_data(near=(Near(first="t/a", second="u/b", across=True),)), "leaks", ["t/a and u/b"]),
        (with_data(groups=20, groups_across=3), "leaks", ["3 groups"]),
        (with_data(near=(Near(first="t/a", second="u/b"),) * 20), "copies", ["act", "20 pairs", "by_group=true"]),
        (with_data(near=(Near(first="t/a", second="u/b"),) * 19), "copies", ["know"]),
        (
            with_data(near=(Near(first="t/a", second="u/b"), Near(first="c", second="d", same_class=False))),
            "copies",
            ["2 pairs look alike, 1 of them in two different classes: c and d."],
        ),
        (with_data(classes={"good": 600, "bad": 19}), "labels", ["'bad' has 19", "5 points"]),
        (with_data(parts={"train": {"good": 5, "bad": 0}}), "split", ["'bad' in train/", "5 good, 0 bad"]),
        (
            dataclasses.replace(PLAIN, unlabeled=Unlabeled(source="p", images=900, looked=500, copies_of_test=7)),
            "photos",
            ["act", "Of 500 photos opened in p, 7 are"],
        ),
        (
            dataclasses.replace(PLAIN, unlabeled=Unlabeled(source="p", images=900, looked=500, bad=2)),
            "photos",
            ["know", "2 cannot"],
        ),
        (with_data(aspect=(2.5, 2.4, 2.6)), "shape", ["act", "2.50"]),
        (with_data(aspect=(1.0, 0.7, 1.4)), "shape", ["know"]),
        (with_data(deep=9, white=4095, white_was_set=True), "depth", ["12-bit", "white=4095"]),
        (with_data(gray=1.0), "gray", ["channels=3"]),
        (with_data(groups=2), "groups", ["2 groups", "too few"]),
        (with_measured(probe=(0.61, 0.58, 0.64)), "floor", ["61.0 % (58.0 to 64.0)", "60.0%"]),
        (with_measured(doubling=(0.02, 0.01, 0.03)), "more labels", ["would help", "+2.0 points", "281 to 562"]),
        (with_measured(shift=0.3), "distance", ["unlike", "0.30"]),
        (with_measured(shift=0.12), "distance", ["are like"]),
        (
            with_measured(suspects=(Suspect(name="p/q/7.png", label="good", said="bad", probability=0.97),)),
            "label errors",
            ["1 picture looks", "q/7.png is good, looks bad (97%)"],
        ),
        (
            with_measured(with_data(groups=30, by_group=True), new_groups=(0.7, 0.6, 0.8), group_gap=(0.15, 0.1, 0.2)),
            "groups",
            ["act", "70.0 % (60.0 to 80.0)", "-15.0 points (-20.0 to -10.0)", "by_group=true"],
        ),
    ],
)
def test_a_finding_shows_its_numbers_and_what_to_do(facts, topic, words):
    for word in words:
        assert word in said(facts)[topic]


def test_what_must_be_done_comes_first():
    levels = [one.level for one in findings(with_data(gray=1.0, bad={"x": "is broken"}, classes={"a": 900, "b": 3}))]
    assert levels == sorted(levels) and levels[0] == "act" and levels[-1] == "know"


def test_balancing_is_advised_only_where_classes_are_uneven_and_it_is_proven_to_help():
    uneven = with_data(classes={"good": 900, "bad": 100})
    assert "decide" not in finetuning(PLAIN).words  # helps, but the classes are nearly even
    assert finetuning(uneven).words["decide"] == "balanced" and "decide=balanced" in said(uneven)["balance"]
    unproven = with_measured(uneven, rebalancing=(0.03, -0.01, 0.06))
    assert "decide" not in finetuning(unproven).words and "not proven" in said(unproven)["balance"]


def test_a_larger_size_needs_proof_and_a_smaller_one_must_not_lose_a_point():
    base = PLAIN.measured.sizes[0]
    for other, best in [(at(256, 0.001, 0.05), 256), (at(256, -0.001, 0.05), 128), (at(64, -0.009, 0.01), 64),
                        (at(64, -0.011, 0.01), 128)]:  # fmt: skip
        facts = with_measured(sizes=(base, other))
        assert best_size(facts) == finetuning(facts).words["size"] == best
        assert (f"size={best}" in said(facts)["size"]) or best == 128


def test_few_labels_get_a_probe_and_transformers_an_adapter():
    assert finetuning(PLAIN).words["tune"] == "probe-then-full"
    for few in ({"images": 99}, {"fewest": 7}, {"probe": (0.999, 0.996, 1.0)}):
        words = finetuning(with_measured(**few)).words
        assert words["tune"] == "probe" and "epochs" not in words and "adapter" not in words
    words = finetuning(dataclasses.replace(PLAIN, transformer=True)).words
    assert words["adapter"] == "lora" and "tune" not in words


def test_a_short_run_gets_more_passes_and_no_batch_larger_than_its_images():
    for images in (100, 150, 400, 5000):
        words = finetuning(with_measured(images=images)).words
        training = images * 0.85
        assert words["batch"] <= training / 2 and 10 <= words["epochs"] <= 40
        assert words["epochs"] * training / words["batch"] >= 55 or words["epochs"] == 40


MANY = with_data(classes={"good": 1500, "bad": 718})


@pytest.mark.parametrize(
    ("facts", "worth"),
    [
        (MANY, "yes"),
        (with_measured(MANY, images=500), "yes"),  # a sample was measured, all can be pretrained on
        (PLAIN, "perhaps"),
        (with_data(classes={"good": 300, "bad": 49}), "no"),
        (with_measured(MANY, probe=(0.99, 0.985, 0.995)), "no"),
        (dataclasses.replace(MANY, pretrained=False), "no"),
        (dataclasses.replace(PLAIN, unlabeled=Unlabeled(source="photos", images=40_000, looked=500)), "yes"),
        (dataclasses.replace(MANY, unlabeled=Unlabeled(source="p", images=50, looked=50)), "no"),
    ],
)
def test_pretraining_is_worth_trying_where_it_was_measured_to_help(facts, worth):
    assert pretraining(facts).worth == worth
