"""From good images to verdicts: the promise is kept on images not seen, defects are found, a folder brings all back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from tests.unit.inspection.striped import parts, spoiled
from visionft import backbones
from visionft.errors import CheckpointError, ConfigError, DataError
from visionft.inspection.eye import Eye
from visionft.inspection.eyes import chosen
from visionft.inspection.gaussian import Gaussian
from visionft.inspection.inspector import Inspector
from visionft.inspection.learn import suspects
from visionft.inspection.looking import look
from visionft.inspection.neighbours import Neighbours
from visionft.inspection.panel import Calm, Panel
from visionft.inspection.sight import Sight
from visionft.inspection.statistics import Statistics
from visionft.log import Console

IMAGES = {"channels": 3, "white": 65535}
FROM_FOLDER = {
    "backbone": "test_resnet", "weights": "none", "eyes": [{"name": "patches", "layers": [1, 2]}],
    "false_reject": 0.05, "quiet": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    torch.manual_seed(0)
    sight = Sight(layers=(1, 2))
    eyes = [Eye(sight, Neighbours(share=0.2)), Eye(sight, Gaussian(), top=20), Eye(sight, Statistics(dims=4))]
    panel = Panel(backbones.load("test_resnet", "none", size=32).eval(), eyes)
    return Inspector.learn(panel, parts(60, 0), 0.05, IMAGES, Console(quiet=True))


def test_good_parts_pass_about_as_often_as_promised_and_defects_do_not(inspector):
    good = inspector.judge(parts(200, 1), [str(at) for at in range(200)])
    assert np.mean([verdict.reject for verdict in good]) <= inspector.promise.bound
    bad = inspector.judge([spoiled(image) for image in parts(20, 2)], [str(at) for at in range(20)])
    assert all(verdict.reject and verdict.p_value == pytest.approx(1 / 61) for verdict in bad)
    for verdict in bad:
        left, top, right, bottom = verdict.regions[0].box
        assert 20 < (left + right) / 2 < 52 and 10 < (top + bottom) / 2 < 40
        assert verdict.mask.shape == verdict.heat.shape == (48, 64) and verdict.overlay.shape == (48, 64, 3)
        assert verdict.mask[25, 36]
    assert np.mean([verdict.mask[:4].any() for verdict in bad]) <= 0.25  # a calm place is marked as rarely as promised


def test_an_evaluation_says_in_what_its_good_parts_are_others(inspector, tmp_path):
    for name, dim in (("same", 0), ("darker", 40)):
        (tmp_path / name / "good").mkdir(parents=True)
        for at, part in enumerate(parts(40, 7)):
            cv2.imwrite(str(tmp_path / name / "good" / f"{at}.png"), np.maximum(part, dim) - dim)
    same, darker = (inspector.evaluate(str(tmp_path / name), quiet=True) for name in ("same", "darker"))
    assert not same.changes and "differ" not in same.words(inspector.promise)
    assert any(change.startswith("brightness fell") for change in darker.changes)
    assert "These good parts differ from those that were fitted to: " in darker.words(inspector.promise)
    assert darker.facts()["changes"] == darker.changes and inspector.promise.bound < darker.overkill.bounded[0]


def test_a_folder_brings_everything_back(inspector, tmp_path):
    again = Inspector.load(inspector.save(tmp_path / "run"))
    images = [*parts(4, 3), spoiled(parts(1, 4)[0])]
    for ours, theirs in zip(*(one.judge(images, ["x"] * 5) for one in (inspector, again)), strict=True):
        assert ours.score == theirs.score and ours.p_value == theirs.p_value and ours.reject == theirs.reject
        assert np.array_equal(ours.places, theirs.places) and ours.scale == theirs.scale
    assert not list((tmp_path / "run").glob(".*"))


def test_files_arrays_and_folders_are_judged_alike(inspector, tmp_path):
    image = spoiled(parts(1, 5)[0])
    file = tmp_path / "photos" / "bad.png"
    file.parent.mkdir()
    assert cv2.imwrite(str(file), image[..., ::-1])
    alone, array, (listed,), (folder,) = (
        inspector.predict(one) for one in (str(file), image, [str(file)], str(file.parent))
    )
    assert alone.score == array.score == listed.score == folder.score
    assert str(alone).split("\t")[:2] == ["bad.png", "reject"] or alone.image.endswith("bad.png")


def test_a_promise_that_the_images_cannot_support_is_refused_before_anything_is_learnt():
    panel = Panel(backbones.load("test_resnet", "none", size=32), [Eye(Sight(layers=(1,)), Neighbours())])
    with pytest.raises(DataError, match="needs at least 99 good images and there are 20"):
        Inspector.learn(panel, parts(20, 0), 0.01, IMAGES, Console(quiet=True))
    assert not panel.calm


def test_another_kind_of_run_is_not_an_inspector(tmp_path):
    (tmp_path / "run.json").write_text('{"verb": "finetune"}')
    with pytest.raises(CheckpointError, match="is a finetune run, not an inspector"):
        Inspector.load(tmp_path)


def test_a_panel_of_one_eye_ranks_as_the_eye_does(inspector):
    eye = inspector.panel.eyes[0]
    images = [*parts(6, 7), *(spoiled(image) for image in parts(3, 8))]
    alone = Panel(inspector.panel.backbone, [eye], calm=[inspector.panel.calm[0]], weights=[1.0])
    own = [seen.score for seen in look([eye], alone.backbone, images)[0]]
    assert np.argsort([seen.score for seen in alone.see(images)]).tolist() == np.argsort(own).tolist()


def test_calm_is_a_scale_of_logarithms():
    calm = Calm.of([1.0, 10.0, 100.0])
    assert calm([10.0])[0] == pytest.approx(0) and calm([1e9])[0] > calm([1e6])[0] > 3
    assert np.isfinite(calm([0.0])[0])


def test_a_defect_among_the_good_parts_is_named_and_hides_its_like_unless_it_is_dropped(tmp_path):
    for at, image in enumerate([*parts(30, 0), spoiled(parts(1, 1)[0])]):
        cv2.imwrite(str(tmp_path / f"{at:03}.png"), image)
    named, dropped = (Inspector.fit(tmp_path, suspects=how, **FROM_FOLDER) for how in ("name", "drop"))
    for found in (named, dropped):
        assert found.learnt["suspects"][0].endswith("030.png") and len(found.learnt["suspects"]) <= 2
        assert len(found.promise.scores) == 31  # the promise counts all images
    alike, other = spoiled(parts(1, 3)[0]), parts(1, 2)[0]
    assert dropped.predict(alike).p_value <= 2 / 32 <= named.predict(alike).p_value
    assert dropped.predict(alike).score > 20 * named.predict(alike).score
    assert not dropped.predict(other).reject


def test_only_what_lies_in_the_region_is_judged_and_maps_are_in_pixels_of_the_photo(tmp_path):
    region = np.zeros((48, 64), np.uint8)
    region[8:40, 24:56] = 255
    cv2.imwrite(str(tmp_path / "region.png"), region)
    found = Inspector.fit(parts(40, 0), region=str(tmp_path / "region.png"), **FROM_FOLDER)
    again = Inspector.load(found.save(tmp_path / "run"))
    inside, outside = parts(2, 1)
    inside[20:30, 30:42] = 20
    outside[20:30, 2:14] = 20
    for one in (found, again):
        hit, miss = one.predict([inside, outside])
        assert hit.reject and not miss.reject
        left, top, right, bottom = hit.regions[0].box
        assert 24 <= left < 36 < right <= 56 and 8 <= top < 25 < bottom <= 40 and hit.heat.shape == (48, 64)


def test_suspects_are_those_that_stand_out():
    calm = np.random.default_rng(0).normal(size=200)
    assert suspects([*calm, 9.0, 12.0]) == [201, 200] and suspects(calm.tolist()) == []
    assert suspects([1.0] * 10) == []


def test_what_a_backbone_cannot_look_at_is_said_before_the_work_begins(monkeypatch):
    monkeypatch.setattr(Panel, "fit", lambda *_: pytest.fail("the work began"))
    with pytest.raises(ConfigError, match=r"backbone=test_resnet cannot look at 64 x 48 pixels \(.*out of range"):
        Inspector.fit(parts(60, 0), **FROM_FOLDER | {"eyes": [{"name": "patches", "layers": [-9, -1]}]})


def test_a_scale_is_that_of_all_eyes_but_those_that_name_one():
    made = chosen(["patches", {"name": "places", "scale": 0.5}], 1.5)
    assert [eye.sight.scale for eye in made] == [1.5, 0.5]
    assert [eye.sight.scale for eye in chosen("auto")] == [1.0, 1.0]
    with pytest.raises(ConfigError, match="scale=0"):
        Inspector.fit(parts(30, 0), scale=0, **FROM_FOLDER)


def test_what_defects_choose_from_is_seen_at_the_scale_of_the_panel():
    found = Inspector.fit(parts(30, 0), scale=2, **FROM_FOLDER)
    fine = found.predict(parts(1, 3)[0])
    assert [eye.sight.scale for eye in found.panel.eyes] == [2.0]
    plain = Inspector.fit(parts(30, 0), **FROM_FOLDER).predict(parts(1, 3)[0])
    assert np.prod(fine.places.shape) == 4 * np.prod(plain.places.shape) and fine.heat.shape == plain.heat.shape
    found.add_defects([spoiled(image) for image in parts(8, 1)], good=parts(30, 0), quiet=True)
    assert {eye.sight.scale for eye in found.panel.eyes} == {2.0}
