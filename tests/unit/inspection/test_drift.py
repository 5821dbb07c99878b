"""The monitor rarely cries wolf, and hears a lamp that ages, a lens out of focus, a camera that repeats itself."""

from __future__ import annotations

import numpy as np
import pytest

from visionft.errors import ConfigError
from visionft.inspection.drift import REJECTS, Monitor
from visionft.inspection.frame import WHOLE
from visionft.inspection.promise import Promise
from visionft.inspection.signs import names, of_pixels, table
from visionft.inspection.verdict import Verdict
from visionft.inspection.where import Scale

RNG = np.random.default_rng(0)


def photo(light: float = 0.5) -> np.ndarray:
    return (255 * (light + RNG.normal(0, 0.1, (12, 12, 1)) + RNG.normal(0, 0.02))).clip(0, 255).astype(np.uint8)


def verdict(score: float | None = None, pixels: np.ndarray | None = None, name: str = "x", reject: bool = False):
    value = RNG.normal() if score is None else score
    pixels = photo() if pixels is None else pixels
    return Verdict(
        name, value, 0.5, reject, (value,), np.zeros((2, 2)), (12, 12), WHOLE, Scale(0, 1), None, [pixels], 0
    )


def monitor(**words) -> Monitor:
    good = [verdict() for _ in range(200)]
    return Monitor(table(good, [v.pixels for v in good]), names(5), Promise.of([v.score for v in good], 0.01), **words)


def test_unchanged_photos_alarm_no_oftener_than_it_says():
    alarms = windows = 0
    for _ in range(12):
        ours = monitor(alarm=0.05, window=20)
        for _ in range(400):
            one = verdict()
            found = ours(verdict(one.score, one.pixels, reject=bool(ours.promise.rejects(one.score))))
            windows += not ours.passed
            alarms += bool(found)
    assert windows >= 200 and alarms <= 0.05 * windows + 2 * np.sqrt(0.05 * windows)


@pytest.mark.parametrize(
    ("change", "sign"),
    [
        (lambda: verdict(pixels=photo(0.42)), "brightness"),
        (lambda: verdict(pixels=np.repeat(np.repeat(photo()[::2, ::2], 2, 0), 2, 1)), "sharpness"),
        (lambda: verdict(pixels=np.full((12, 12, 1), 128, np.uint8)), "contrast"),
        (lambda: verdict(score=1.2 + 0.3 * RNG.normal()), "score"),
    ],
)
def test_what_changes_is_named(change, sign):
    ours = monitor()
    (found,) = [said for said in (ours(change()) for _ in range(50)) if said]
    assert sign in [drift.sign for drift in found] and "drift: " in ours.words(found)


def test_a_camera_that_repeats_a_frame_is_noticed_though_the_frame_is_ordinary():
    ours, frame = monitor(), photo()
    score = float(np.median(ours.reference[:, 0]))
    (found,) = [said for said in (ours(verdict(score, frame)) for _ in range(50)) if said]
    assert {drift.sign for drift in found} >= {"score", "brightness"}


def test_rejects_beyond_the_promise_are_an_alarm_even_where_nothing_passes():
    ours = monitor(window=10)
    (found,) = [said for said in (ours(verdict(9.0, reject=True)) for _ in range(40)) if said]
    assert [drift.sign for drift in found] == [REJECTS] and found[0].now == 1


def test_it_names_photos_to_learn_from_each_once():
    ours = monitor()
    for at in range(100):
        ours(verdict(pixels=photo(0.4), name=f"photo {at}"))
    some = ours.to_learn()
    assert len(some) == len(set(some)) == 40 and ours.to_learn(5) == some[:5]


def test_sharpness_knows_neither_light_nor_contrast_but_focus():
    image = RNG.integers(60, 120, (40, 40, 3)).astype(np.uint8)
    sharp = of_pixels(image)[2]
    assert of_pixels(image + np.uint8(60))[2] == pytest.approx(sharp, abs=1e-3)
    assert of_pixels(image * np.uint8(2))[2] == pytest.approx(sharp, abs=0.01)
    blurred = (image.astype(float) + np.roll(image, 1, 0) + np.roll(image, 1, 1)) / 3
    assert of_pixels(blurred.astype(np.uint8))[2] < sharp - 0.3


def test_a_window_too_small_to_tell_is_refused():
    with pytest.raises(ConfigError, match="window=3"):
        monitor(window=3)
