"""Cameras: who judges slowly delays none, what fails comes back, and nothing is lost unsaid."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import numpy as np
import pytest

from tests.unit.inspection.line.standins import Shades, opener
from visionft.errors import DataError
from visionft.inspection.line import camera as cameras
from visionft.inspection.line.camera import Camera, Ring
from visionft.inspection.line.shots import Event, Outage, Shot, Taken, frame_reader, growing, now

READ = frame_reader(3, 65535)


def taken_from(source: Any, count: int) -> list[Any]:
    """The first so many shots and events."""
    shots = source.shots()
    found = list(itertools.islice((came for came in shots if came), count))
    shots.close()
    return found


def shot(number: int) -> Shot:
    return Shot(str(number), now(), 0.0, np.zeros((1, 1, 3), np.uint8))


def test_a_ring_keeps_the_newest_and_counts_what_it_drops_but_no_event():
    ring = Ring(2)
    for new in (shot(0), Event("camera lost", ""), shot(1), shot(2), shot(3)):
        ring.put(new)
    came = [ring.take(0) for _ in range(4)]
    assert isinstance(came[0], Event) and [one.name for one in came[1:3]] == ["2", "3"]
    assert came[1].dropped == 2 and came[3] is None


def test_a_slow_judge_never_delays_the_camera():
    device = Shades(range(10_000), pace=0.001)
    camera = Camera("camera", opener(device), READ, buffer=2)
    shots, names = camera.shots(), []
    for _ in range(4):
        came = next(came for came in shots if came)
        names.append(int(came.name.removeprefix("camera-")))
        time.sleep(0.02)
    grabbed, dropped = camera.grabbed, camera.ring.dropped
    shots.close()
    assert names == sorted(set(names)) and grabbed > 3 * len(names)
    assert 0 <= grabbed - dropped - len(names) <= 4  # what is neither dropped nor taken waits
    assert device.released


def test_a_camera_that_fails_and_comes_back_says_so_and_loses_no_frame():
    sessions = [Shades(range(3)), OSError("unplugged"), Shades([])]
    sessions += [Shades(range(3, 6), fails=RuntimeError("timeout")), Shades(range(6, 8))]
    camera = Camera("camera", opener(*sessions), READ, buffer=100, wait=0.001)
    came = taken_from(camera, 12)
    said = [one.what if isinstance(one, Event) else int(one.pixels[0, 0, 0]) for one in came]
    assert said == [0, 1, 2, "camera lost", "camera back", 3, 4, 5, "camera lost", "camera back", 6, 7]
    assert "cannot be read" in came[3].text and "RuntimeError: timeout" in came[8].text
    assert [one.name for one in came if isinstance(one, Shot)] == [f"camera-{at:06}" for at in range(8)]
    assert all(session.released for session in sessions if isinstance(session, Shades))


def test_a_camera_that_stays_away_is_an_error():
    camera = Camera("camera", opener(Shades(range(2))), READ, give_up=0.02, wait=0.001)
    with pytest.raises(DataError, match=r"camera has given nothing for 0 s; give_up=0\.02"):
        taken_from(camera, 4)


def test_a_camera_that_gives_no_first_frame_is_an_error_at_once():
    with pytest.raises(DataError, match="camera gives no photos: OSError: no such device"):
        taken_from(Camera("camera", opener(OSError("no such device")), READ, give_up=None), 1)


def test_a_driver_that_hangs_is_a_lost_camera(monkeypatch):
    monkeypatch.setattr(cameras, "SILENT", 0.01)
    monkeypatch.setattr(cameras, "TICK", 0.01)
    hanging = threading.Event()
    device = Shades(range(9))
    device.grab = lambda: Shades.grab(device) if device.shade is None else not hanging.wait(0.1)
    shots = Camera("camera", opener(device), READ, give_up=0.05).shots()
    first, lost = itertools.islice((came for came in shots if came), 2)
    assert isinstance(first, Shot) and lost.what == "camera lost" and lost.text.startswith("camera: no frame for")
    with pytest.raises(DataError, match="has given nothing"):
        next(came for came in shots if came)


def test_waits_grow_and_end_somewhere():
    assert [growing(0.5, failures) for failures in (1, 2, 3, 99)] == [0.5, 1, 2, 30]
    outage = Outage("camera", "camera", None)
    assert outage.fine() is None and outage.failing("x") and outage.failing("x") is None and outage.tries == 2
    assert outage.fine().what == "camera back" and outage.tries == 0


def test_one_frame_in_so_many_seconds_is_taken_and_only_those_that_are_wanted():
    taken, black = Taken(every=0.2), np.zeros((1, 1, 3), np.uint8)
    assert [at for at in range(26) if taken.due(at / 25) and taken.takes(at / 25, black)] == [0, 5, 10, 15, 20, 25]
    bright = Taken(every=1.0, wanted=lambda photo: photo.max() > 7)
    frames = [np.full((1, 1, 3), at, np.uint8) for at in range(20)]
    assert [at for at in range(20) if bright.due(at / 10) and bright.takes(at / 10, frames[at])] == [8, 10]


def test_what_wanted_raises_comes_to_the_loop_and_frames_are_rgb():
    def wanted(photo: np.ndarray) -> bool:
        assert photo[0, 0].tolist() == [3, 2, 1]
        raise ZeroDivisionError

    device = Shades(range(9))
    device.retrieve = lambda: (True, np.array([[[1, 2, 3]]], np.uint8))
    with pytest.raises(ZeroDivisionError):
        taken_from(Camera("camera", opener(device), READ, taken=Taken(wanted=wanted)), 1)
    assert device.released
    assert READ(np.full((2, 2), 9, np.uint8)).tolist() == np.full((2, 2, 3), 9).tolist()
    assert frame_reader(1, 65535)(np.full((2, 2, 3), 9, np.uint8)).shape == (2, 2, 1)
