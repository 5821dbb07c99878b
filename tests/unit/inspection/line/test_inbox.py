"""Films and folders: every frame in order, every photo once, and nothing before it is whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.unit.inspection.line.standins import Shades, opener, photo
from visionft.data.decode import decode
from visionft.errors import ConfigError, DataError
from visionft.inspection.line.camera import Camera
from visionft.inspection.line.film import Film
from visionft.inspection.line.inbox import Inbox
from visionft.inspection.line.shots import Taken, frame_reader
from visionft.inspection.line.source import opened
from visionft.inspection.verbs import InspectWatch

READ = frame_reader(3, 65535)


def test_a_film_is_seen_frame_by_frame_and_ends(film):
    came = [one for one in Film(film, READ).shots() if one]
    assert [one.name for one in came] == [f"clip-{at:06}" for at in range(12)]
    assert [one.pixels.mean() // 20 for one in came] == list(range(12))
    fewer = [one.name for one in Film(film, READ, taken=Taken(every=0.5)).shots() if one]
    assert fewer == ["clip-000000", "clip-000005", "clip-000010"]


def test_a_film_that_ends_early_says_so_and_what_is_no_film_is_refused(film, tmp_path):
    class Boasting(Shades):
        def get(self, what: int) -> float:
            return 20 if what == cv2.CAP_PROP_FRAME_COUNT else 0

    *shots, last = (one for one in Film(film, READ, open=lambda _: Boasting(range(12))).shots() if one)
    assert len(shots) == 12 and last.text.endswith("says that it has 20 frames; 12 could be read")
    (tmp_path / "text.avi").write_text("nothing to see")
    with pytest.raises(DataError, match=r"text\.avi cannot be read as a video"):
        list(Film(tmp_path / "text.avi", READ).shots())


def looks(shots: Iterator[Any], count: int) -> list[Any]:
    """What comes in so many looks at the folder, the last of which find nothing."""
    found = []
    while count:
        came = next(shots)
        found += [came] if came else []
        count -= came is None
    return found


def inbox(folder: Path, **words: Any) -> Iterator[Any]:
    return Inbox(folder, decode, **words).shots()


def test_photos_of_a_folder_come_once_in_the_order_of_arrival(tmp_path):
    for name, at in (("b10.png", 20), ("b2.png", 20), ("z.png", 10), ("deep/a.png", 30)):
        photo(tmp_path / name, at=1e9 + at)
    shots = inbox(tmp_path)
    assert [one.name for one in looks(shots, 4)] == ["z.png", "b2.png", "b10.png", "deep/a.png"]
    photo(tmp_path / "c.png", 7)
    (late,) = looks(shots, 4)
    assert late.name == "c.png" and late.pixels.max() == 7 and late.time.timestamp() == 1e9
    photo(tmp_path / "c.png", 9, at=1e9 + 1)  # another photo of the same name
    assert [one.pixels.max() for one in looks(shots, 4)] == [9]


def test_a_photo_that_is_being_written_waits(tmp_path):
    whole = photo(tmp_path / "elsewhere.png").read_bytes()
    (tmp_path / "box").mkdir()
    shots, file = inbox(tmp_path / "box"), tmp_path / "box" / "a.png"
    for end in range(10, 60, 10):
        file.write_bytes(whole[:end])
        assert looks(shots, 1) == []
    file.write_bytes(whole)
    assert [one.name for one in looks(shots, 4)] == ["a.png"]


def test_a_damaged_photo_is_an_event_and_comes_again_when_it_is_mended(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"no photo")
    photo(tmp_path / "b.png", at=2e9)
    shots = inbox(tmp_path)
    damaged, fine = looks(shots, 5)
    assert (damaged.what, damaged.frame, fine.name) == ("unreadable", "a.png", "b.png")
    assert "is not an image that can be read" in damaged.text
    photo(file, 3)
    assert [one.name for one in looks(shots, 4)] == ["a.png"]


def test_a_photo_that_somebody_holds_is_tried_again(tmp_path, monkeypatch):
    photo(tmp_path / "a.png")
    shots, held, real = inbox(tmp_path), [True], Path.read_bytes

    def read_bytes(file: Path) -> bytes:
        if held:
            raise PermissionError(13, "Permission denied")
        return real(file)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert [(one.what, one.frame) for one in looks(shots, 6)] == [("waits", "a.png")]
    held.clear()
    assert [one.name for one in looks(shots, 4)] == ["a.png"]


def test_a_folder_that_goes_away_is_lost_and_back_or_given_up(tmp_path):
    box, away = tmp_path / "box", tmp_path / "away"
    photo(box / "a.png")
    shots = inbox(box, give_up=0.05)
    assert len(looks(shots, 4)) == 1
    box.rename(away)
    assert [one.what for one in looks(shots, 3)] == ["folder lost"]
    away.rename(box)
    assert [one.what for one in looks(shots, 3)] == ["folder back"]
    box.rename(away)
    with pytest.raises(DataError, match="has given nothing"):
        for _ in shots:
            time.sleep(0.01)


def source(what: Any, **words: Any) -> Any:
    return opened(InspectWatch(source=what, **words), {"channels": 3, "white": 65535}, None)


def test_a_source_is_what_it_looks_like(tmp_path, film):
    assert isinstance(source(0), Camera) and source("1").name == "camera1"
    assert source("rtsp://me:secret@10.0.0.7:554/one?key=2").name == "10.0.0.7-one"
    assert isinstance(source(opener()), Camera)
    assert isinstance(source(film), Film) and isinstance(source(str(tmp_path)), Inbox)


@pytest.mark.parametrize(
    ("what", "words", "said"),
    [
        ("nowhere.avi", {}, "source=nowhere.avi does not exist"),
        (0, {"camera": {"frame_widht": 640}}, "did you mean frame_width?"),
        (0, {"camera": {"frame_width": "wide"}}, "camera.frame_width='wide' is a number"),
        ("{folder}", {"out": "{folder}/line"}, "its pictures would be judged, too"),
        ("{folder}", {"every": 1.0}, "of a folder every photo is judged"),
        ("{folder}", {"camera": {"fps": 5}}, "camera= is for cameras"),
        ("{folder}/a.png", {}, "is a photo; see `visionft inspect predict`"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(tmp_path, what, words, said):
    photo(tmp_path / "a.png")
    here = {key: word.format(folder=tmp_path) if key == "out" else word for key, word in words.items()}
    with pytest.raises((ConfigError, DataError)) as refused:
        source(what.format(folder=tmp_path) if isinstance(what, str) else what, **here)
    assert said in str(refused.value)
