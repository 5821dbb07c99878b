"""A video file, judged frame by frame: nothing is dropped, whoever judges takes the time it takes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import cv2

from visionft.errors import DataError

from .shots import Event, Read, Shot, Shots, Taken, now


class Film:
    """The frames of a video in their order; `every` counts in seconds of the video."""

    patient, alike = True, True

    def __init__(
        self, file: Path, read: Read, *, taken: Taken | None = None,
        open: Callable[[str], cv2.VideoCapture] = cv2.VideoCapture,
    ) -> None:  # fmt: skip
        self.name, self.file, self.read, self.taken, self.open = file.stem, file, read, taken or Taken(), open

    def shots(self) -> Shots:
        """Until the video ends. Raises DataError where it is none; that it ends early is an event."""
        video = self.open(str(self.file))
        try:
            speed, said = video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)
            speed = speed if speed > 0 else 25.0  # many containers do not say
            for at in itertools.count():
                if not video.grab():
                    break
                if self.taken.due(at / speed):
                    yield self._shot(video, at, at / speed)
            if not at:
                raise DataError(f"{self.file} cannot be read as a video")
            if at < said:
                yield Event("video ends early", f"{self.file} says that it has {said:.0f} frames; {at} could be read")
        finally:
            video.release()

    def _shot(self, video: cv2.VideoCapture, at: int, seconds: float) -> Shot | Event | None:
        grabbed, name = time.perf_counter(), f"{self.name}-{at:06}"
        fine, pixels = video.retrieve()
        if not fine:
            return Event("unreadable", "the frame cannot be decoded", name)
        photo = self.read(pixels)
        return Shot(name, now(), grabbed, photo) if self.taken.takes(seconds, photo) else None
