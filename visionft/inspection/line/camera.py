"""A camera or a stream: a thread grabs, a ring keeps the newest photos, and what fails is tried again."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import replace
from datetime import datetime
from typing import Protocol

import numpy as np

from visionft.errors import DataError, first_line

from .shots import TICK, Event, Outage, Read, Shot, Shots, Taken, growing, now

SILENT = 10.0  # seconds without a frame after which a camera counts as lost although it reports no failure


class Capture(Protocol):
    """What cv2.VideoCapture does, and any other camera can be made to do."""

    def grab(self) -> bool:
        """Wait for the next frame and keep it undecoded; False is a failure."""
        ...

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        """Decode it: H W 3 in the order BGR, or H W."""
        ...

    def release(self) -> None:
        """Let the device go."""
        ...


class Ring:
    """A few photos that wait, with events between them; when more come, the oldest are dropped and counted."""

    def __init__(self, size: int) -> None:
        self.size, self.dropped = size, 0
        self.held: deque[Shot | Event | Exception] = deque()
        self.came = threading.Condition()

    def put(self, new: Shot | Event | Exception) -> None:
        """Never waits."""
        with self.came:
            self.held.append(new)
            shots = [one for one in self.held if isinstance(one, Shot)]
            if len(shots) > self.size:
                self.held.remove(shots[0])
                self.dropped += 1
            self.came.notify()

    def take(self, wait: float) -> Shot | Event | Exception | None:
        """The oldest, or None when nothing comes in so many seconds."""
        with self.came:
            if not self.came.wait_for(lambda: self.held, wait):
                return None
            first = self.held.popleft()
            return replace(first, dropped=self.dropped) if isinstance(first, Shot) else first


class Camera:
    """Frames of a live source, grabbed by a thread of its own, so that grabbing never waits for judging.

    A camera that fails is opened again, with growing waits; that it was lost and that it is back are events. One that
    gives no first frame is an error at once, and so is one that stays away for `give_up` seconds.
    """

    patient, alike = False, True

    def __init__(
        self, name: str, open: Callable[[], Capture], read: Read, *, buffer: int = 4, taken: Taken | None = None,
        give_up: float | None = 60.0, wait: float = 0.5,
    ) -> None:  # fmt: skip
        self.name, self.open, self.read, self.taken = name, open, read, taken or Taken()
        self.ring, self.outage, self.wait = Ring(buffer), Outage("camera", name, give_up), wait
        self.grabbed, self.stop = 0, threading.Event()

    def shots(self) -> Shots:
        """For ever. Raises DataError when the camera stays away, and whatever `wanted` raises."""
        thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        thread.start()
        try:
            while True:
                came = self.ring.take(TICK)
                if isinstance(came, Exception):
                    raise came
                yield came or self._silence()
        finally:
            self.stop.set()
            thread.join(1)  # no longer: a driver may hang

    def _silence(self) -> Event | None:
        """What it means that nothing has come."""
        quiet = time.monotonic() - self.outage.last
        lost = self.outage.failing(f"no frame for {quiet:.0f} s") if quiet > SILENT and not self.outage.lost else None
        self.outage.check()
        return lost

    def _run(self) -> None:
        """Grab until told to stop."""
        try:
            while not self.stop.is_set():
                why = self._session()
                if self.stop.is_set():
                    break
                if not self.grabbed:
                    raise DataError(f"{self.name} gives no photos: {why}")
                self._say(self.outage.failing(why))
                self.stop.wait(growing(self.wait, self.outage.tries))
        except Exception as error:  # to be raised where the photos are taken
            self.ring.put(error)

    def _session(self) -> str:
        """Open, and grab until that fails; returns why it did."""
        failures: list[str] = []
        with contextlib.closing(self._frames(failures)) as frames:
            for at, when, pixels in frames:
                if self.taken.takes(at, photo := self.read(pixels)):
                    self.ring.put(Shot(f"{self.name}-{self.grabbed - 1:06}", when, at, photo))
        return failures[0]

    def _frames(self, failures: list[str]) -> Generator[tuple[float, datetime, np.ndarray], None, None]:
        """Frames that are due, each with its times; at the end there is a failure."""
        with contextlib.ExitStack() as stack:
            try:
                capture = self.open()
                stack.callback(capture.release)
                while not self.stop.is_set() and capture.grab():
                    at, when = time.perf_counter(), now()
                    self._say(self.outage.fine())
                    self.grabbed += 1
                    if self.taken.due(at):
                        fine, pixels = capture.retrieve()
                        if not fine or pixels is None:
                            break
                        yield at, when, pixels
                failures.append("it cannot be read; is it connected, and used by nobody else?")
            except Exception as error:  # whatever a driver raises, the camera may come back
                failures.append(first_line(error))

    def _say(self, event: Event | None) -> None:
        if event:
            self.ring.put(event)
