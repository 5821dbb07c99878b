"""Stand-ins for what a line has: a camera of many shades, an inspector that rejects what is bright."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from visionft.errors import DataError
from visionft.inspection.frame import WHOLE
from visionft.inspection.line.watch import Watched, watch
from visionft.inspection.verbs import InspectWatch
from visionft.inspection.verdict import Verdict
from visionft.inspection.where import Scale
from visionft.log import Console


class Shades:
    """A camera whose frames have these shades, one after the other; then it fails."""

    def __init__(self, shades: Iterable[int], pace: float = 0.0, fails: Exception | None = None) -> None:
        self.shades, self.pace, self.fails = iter(shades), pace, fails
        self.shade: int | None = None
        self.released = False

    def grab(self) -> bool:
        time.sleep(self.pace)
        self.shade = next(self.shades, None)
        if self.shade is None and self.fails:
            raise self.fails
        return self.shade is not None

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((20, 30, 3), self.shade, np.uint8)

    def release(self) -> None:
        self.released = True


def opener(*sessions: Any) -> Callable[[], Any]:
    """Opens these one after the other, and then none that works; an exception is raised."""
    left = iter(sessions)

    def open() -> Any:
        session = next(left, Shades([]))
        if isinstance(session, Exception):
            raise session
        return session

    return open


class Judge:
    """Rejects what is bright, is unsure from a shade on, takes some time, and cannot judge what is black."""

    images = {"channels": 3, "white": 65535}

    def __init__(self, seconds: float = 0.0, unsure: float = np.inf) -> None:
        self.seconds, self.unsure = seconds, unsure

    def gray(self) -> np.ndarray:
        return np.full((64, 64, 3), 128, np.uint8)

    def judge(self, pixels: Any, names: Any) -> list[Verdict]:
        time.sleep(self.seconds)
        value = float(pixels[0].mean())
        if value == 0:
            raise DataError("has nothing left inside the border")
        places = np.zeros((2, 3))
        places[0, 0] = value
        return [
            Verdict(
                image=names[0], score=value, p_value=1 / (1 + value), reject=value > 120, each=(value,), places=places,
                size=pixels[0].shape[:2], frame=WHOLE, scale=Scale(0.0, 120.0), mm_per_pixel=None, source=pixels, at=0,
                unsure=self.unsure <= value <= 120,
            )
        ]  # fmt: skip


def watched(source: Any, judge: Any = None, console: Console | None = None, **words: Any) -> Watched:
    told = {key: words.pop(key) for key in ("told", "wanted") if key in words}
    recipe = InspectWatch(source=source, **{"alarm": None, **words})
    return watch(judge or Judge(), recipe, console=console or Console(quiet=True), **told)


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "verdicts.jsonl").read_text().splitlines()]


def frames(out: Path) -> list[str]:
    return [row["frame"] for row in rows(out) if "verdict" in row]


def photo(file: Path, value: int = 0, at: float = 1e9) -> Path:
    """A photo of one shade, put there at a time of its own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), np.full((20, 30, 3), value, np.uint8))
    os.utime(file, (at, at))
    return file
