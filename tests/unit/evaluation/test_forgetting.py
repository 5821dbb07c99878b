"""What was forgotten: levels of any network, paired intervals, the front, and nothing where nothing moved."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SIDE
from visionft.backbone import Backbone
from visionft.evaluation.bootstrap import mean_of
from visionft.evaluation.forgetting import Known, compare, front, headline, levels, stages
from visionft.evaluation.worth import Worth

DRAW = np.random.default_rng(0)


def known(hits, features=None, **more) -> Known:
    z = torch.from_numpy(DRAW.normal(size=(len(hits), 4))) if features is None else features
    return Known(z, right=np.array(hits, bool), **more)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_every_network_has_stages_that_end_where_its_features_begin(name, pixels):
    torch.manual_seed(0)
    backbone = Backbone(name, size=SIDE)
    found, places = stages(backbone, pixels, SIDE, batch=7), levels(backbone)
    assert 2 <= len(found) <= 6
    assert [*places.values()] == sorted(places.values())
    assert places.popitem()[1] == len(backbone.net.feature_info) - 1  # the last map is what the head pools
    assert all(z.shape[0] == 24 and z.ndim == 2 for z in found.values())
    whole = stages(backbone, pixels, SIDE, batch=24)
    assert all(np.allclose(found[stage], whole[stage], rtol=1e-2, atol=1e-2) for stage in found)


def test_a_change_of_one_stage_is_seen_from_there_on(pixels):
    torch.manual_seed(0)
    backbone = Backbone("test_resnet", size=SIDE)
    other = copy.deepcopy(backbone)
    stage = other.stage_of()
    last = max(stage.values())
    with torch.no_grad():
        for name, p in other.named_parameters():
            if stage[name] == last:
                p.mul_(1.5)
    before, after = (stages(b, pixels, SIDE) for b in (backbone, other))
    moved = [not np.array_equal(before[name], after[name]) for name in before]
    assert moved == [False] * (len(moved) - 1) + [True]


def test_looking_leaves_the_backbone_in_its_mode(pixels):
    backbone = Backbone("test_resnet", size=SIDE).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    stages(backbone, pixels, SIDE)
    assert backbone.training
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())


def test_nothing_is_forgotten_by_what_did_not_move():
    one = known([1, 0, 1, 1], said=np.array([3, 1, 2, 0]), worth=Worth(np.ones(4, bool), np.ones(4, bool), 0.1))
    found = compare(one, one)
    assert found["cka"] == pytest.approx(1)
    assert found["drift"] == 0
    assert found["agreement"] == 1
    assert {found[f"{name}_change{end}"] for name in ("old_accuracy", "knn_accuracy", "probe_accuracy")
            for end in ("", "_low", "_high")} == {0}  # fmt: skip


def test_differences_are_paired_image_by_image():
    """Two that are right on the same images differ by nothing, surely; on other images, unsurely."""
    hits = [1, 0] * 20
    same, turned = compare(known(hits), known(hits)), compare(known(hits), known(hits[::-1]))
    assert same["old_accuracy"] == turned["old_accuracy"] == 0.5
    assert same["old_accuracy_change_low"] == same["old_accuracy_change_high"] == 0
    assert turned["old_accuracy_change_low"] < -0.1 < 0.1 < turned["old_accuracy_change_high"]


def test_agreement_counts_the_same_answers_right_or_wrong():
    one, other = (known([0] * 4, said=np.array(said)) for said in ([1, 2, 3, 4], [1, 2, 3, 5]))
    assert compare(one, other)["agreement"] == 0.75


def test_what_cannot_be_told_is_left_out_and_the_headline_is_the_most_that_can():
    z = torch.from_numpy(DRAW.normal(size=(6, 3)))
    plain = compare(Known(z), Known(z))
    assert plain.keys() == {"cka", "drift"}
    said, worth = np.arange(6), Worth(np.ones(6, bool), np.ones(6, bool), 0.1)
    rows = [Known(z), Known(z, said=said), Known(z, said=said, worth=worth), Known(z, said, said > 2, worth)]
    assert [headline(compare(k, k)) for k in rows] == ["cka", "agreement", "probe_accuracy", "old_accuracy"]


def test_an_interval_holds_its_value():
    value, low, high = mean_of(np.array([1, 1, 1, 0] * 25))
    assert low < value == 0.75 < high
    assert high - low == pytest.approx(2 * 1.96 * (0.75 * 0.25 / 100) ** 0.5, rel=0.2)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_whoever_is_off_the_front_is_beaten_by_somebody_on_it(rows):
    ahead = front(rows)
    best = [row for row, on in zip(rows, ahead, strict=True) if on]
    assert best
    for row, on in zip(rows, ahead, strict=True):
        beaten = any(a >= row[0] and b >= row[1] and (a, b) != row for a, b in best)
        assert beaten != on
