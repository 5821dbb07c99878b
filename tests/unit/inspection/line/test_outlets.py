"""What cannot be written waits in memory, in order; what is given up is counted, and nothing is by half."""

from __future__ import annotations

import errno
import io
import json
import os
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.inspection.line.standins import Shades, frames, opener, rows, watched
from visionft import atomic
from visionft.inspection.line import outlets
from visionft.inspection.line.behind import Behind
from visionft.inspection.line.latency import Latency
from visionft.inspection.line.lines import Lines, known
from visionft.inspection.verdict import Verdict
from visionft.log import Console


def full(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[bool]:
    """Make a function fail as on a full disk while the list is not empty."""
    real, state = getattr(module, name), [True]

    def write(*args: Any, **words: Any) -> Any:
        if state:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **words)

    monkeypatch.setattr(module, name, write)
    return state


@pytest.mark.usefixtures("quick")
def test_on_a_full_disk_verdicts_go_on_and_pictures_are_written_when_there_is_room(tmp_path, monkeypatch):
    disk = full(monkeypatch, atomic, "replace")

    def free(verdict: Verdict) -> None:
        if verdict.image.endswith("19"):
            while len(rows(tmp_path)) < 15:  # the log goes on without the pictures
                time.sleep(0.001)
            disk.clear()

    console = io.StringIO()
    found = watched(lambda: Shades([200] * 30, 0.001), out=str(tmp_path), told=[free], stop_after=30, buffer=99,
                    console=Console(console))  # fmt: skip
    assert found.parts == 30 and found.given_up == {}
    assert all((tmp_path / row["photo"]).is_file() for row in rows(tmp_path) if "verdict" in row)
    assert [row["event"] for row in rows(tmp_path) if "event" in row] == [
        "pictures failing", "pictures working again", "ended"
    ]  # fmt: skip
    assert "No space left on device" in console.getvalue()


@pytest.mark.usefixtures("quick")
def test_what_no_room_is_ever_found_for_is_counted(tmp_path, monkeypatch):
    full(monkeypatch, atomic, "replace")
    monkeypatch.setattr(outlets, "PICTURES", 4)
    found = watched(opener(Shades([200] * 10, 0.001)), out=str(tmp_path), stop_after=10, buffer=99)
    assert found.parts == len(frames(tmp_path)) == 10 and found.given_up == {"pictures": 10}
    assert "10 pictures given up" in str(found) and rows(tmp_path)[-1]["given_up"] == {"pictures": 10}
    assert not list((tmp_path / "rejects").rglob("*.*"))


@pytest.mark.usefixtures("quick")
def test_lines_wait_for_room_too_and_none_is_written_by_half(tmp_path, monkeypatch):
    disk = full(monkeypatch, Lines, "write")
    console = io.StringIO()
    found = watched(lambda: Shades([60] * 20, 0.001), out=str(tmp_path), stop_after=20, buffer=99,
                    told=[lambda verdict: disk.clear() if verdict.image.endswith("15") else None],
                    console=Console(console))  # fmt: skip
    assert frames(tmp_path) == [f"camera-{at:06}" for at in range(20)] and found.given_up == {}
    assert "log failing: OSError" in console.getvalue()


def test_a_line_that_only_half_fits_is_taken_back(tmp_path, monkeypatch):
    lines = Lines(tmp_path / "verdicts.jsonl")
    lines.write({"a": 1})
    real, opened = Path.open, []

    class Half:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Half:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> int:
            return int(self.file.write(data[: len(data) // 2]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *args, **words: opened.append(Half(real(*args, **words))) or opened[-1])
        with pytest.raises(OSError, match="No space left"):
            lines.write({"b": "much too long"})
    lines.write({"c": 3})
    assert (tmp_path / "verdicts.jsonl").read_text() == '{"a": 1}\n{"c": 3}\n'


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_a_kill_cut_off_is_removed_and_its_photo_judged_again(tmp_path, cut):
    file, at = tmp_path / "verdicts.jsonl", "2026-01-02T03:04:05.000006+01:00"
    for name in ("a.png", "b.png"):
        Lines(file).write({"time": at, "frame": name})
    assert known(file) == {(name, datetime.fromisoformat(at)) for name in ("a.png", "b.png")}
    file.write_bytes(file.read_bytes()[:-cut])
    Lines(file).write({"event": "ended"})
    assert [json.loads(line) for line in file.read_text().splitlines()][-1] == {"event": "ended"}
    assert {name for name, _ in known(file)} == {"a.png"}


def test_the_oldest_are_given_up_when_too_many_wait_and_never_in_silence():
    events, done, gate = list[Any](), list[int](), threading.Event()

    def deliver(item: int) -> None:
        gate.wait()
        done.append(item)

    outlet = Behind("pictures", deliver, events.append, kept=3)
    outlet.put(0)
    while outlet.held:
        time.sleep(0.001)  # the thread has it in hand
    for item in range(1, 8):
        outlet.put(item)
    gate.set()
    outlet.close(5)
    assert done == [0, 5, 6, 7] and outlet.given_up == 4
    assert [event.what for event in events] == ["pictures given up", "pictures working again"]
    assert events[-1].text == "0 attempts failed, 4 were given up"


def test_the_patient_wait_for_room_and_lose_nothing():
    done: list[int] = []
    outlet = Behind("pictures", lambda item: (time.sleep(0.001), done.append(item)), print, kept=2)
    for item in range(20):
        outlet.put(item, patient=True)
    outlet.close(5)
    assert done == list(range(20)) and outlet.given_up == 0


def test_what_hangs_does_not_hold_up_the_end():
    events, gate = list[Any](), threading.Event()
    outlet = Behind("webhook", lambda item: gate.wait(), events.append, kept=9)
    for item in range(3):
        outlet.put(item)
    outlet.close(0.02)
    assert outlet.given_up == 3 and events[-1].text == "3 at the end"
    gate.set()


@pytest.mark.parametrize("scale", [1e-3, 0.05, 3.0])
def test_percentiles_of_latency_are_right_to_half_a_percent(scale):
    seconds, latency = np.random.default_rng(0).lognormal(np.log(scale), 0.5, 5000), Latency()
    for one in seconds:
        latency.add(one)
    for percent in (1, 50, 99, 100):
        exact = np.percentile(seconds, percent, method="inverted_cdf")
        assert latency.percentile(percent) == pytest.approx(exact, rel=0.005)
    assert latency.slowest == seconds.max() and Latency().percentile(99) == 0
    assert len(latency.counts) < 600
