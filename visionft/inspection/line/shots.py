"""What comes from the line: photos with their times, and what happened there that is no photo."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import cv2
import numpy as np

from visionft.data.decode import converted, of_array
from visionft.errors import DataError

TICK = 0.1  # seconds that a source waits at most before it yields None, so that the loop can look around
LONGEST = 30.0  # seconds between two attempts, at most

Wanted = Callable[[np.ndarray], bool]  # whether an RGB photo is to be judged, such as one with a part in it
Read = Callable[[np.ndarray], np.ndarray]  # from what was grabbed to what the inspector judges


def now() -> datetime:
    """The time of day here, with its offset from UTC."""
    return datetime.now().astimezone()


@dataclass(frozen=True, eq=False)
class Shot:
    """One photo, decoded as the inspector reads photos."""

    name: str
    time: datetime  # when it was taken
    grabbed: float  # when it came, on the clock that latencies are measured by (time.perf_counter)
    pixels: np.ndarray
    dropped: int = 0  # photos that came before it and were never judged


@dataclass(frozen=True)
class Event:
    """Something that happened and is no verdict: a lost camera, a damaged photo, a full disk."""

    what: str
    text: str
    frame: str = ""  # where it is about one photo
    time: datetime = field(default_factory=now)

    def row(self) -> dict[str, Any]:
        """Plain JSON values."""
        about = {"frame": self.frame} if self.frame else {}
        return {"time": stamp(self.time), "event": self.what, **about, "text": self.text}

    def __str__(self) -> str:
        return f"{self.time:%H:%M:%S} {self.what}: {f'{self.frame}: ' if self.frame else ''}{self.text}"


Shots = Generator[Shot | Event | None, None, None]


class Source(Protocol):
    """Photos in the order in which they came; None whenever nothing has come for a moment."""

    patient: bool  # waits for whoever judges, so that nothing is ever dropped
    alike: bool  # all photos are of one size and kind: if one cannot be judged, none can

    def shots(self) -> Shots:
        """Until there are no more, perhaps never. Raises DataError when there is no hope left."""
        ...


@dataclass
class Outage:
    """How long a source has been away: the events of its going and coming back, and when hope ends."""

    kind: str  # camera, folder
    name: str
    give_up: float | None  # seconds; None never does
    tries: int = 0
    lost: bool = False
    last: float = field(default_factory=time.monotonic)

    def fine(self) -> Event | None:
        """Note that it works; the event is that it does so again."""
        away, self.last = time.monotonic() - self.last, time.monotonic()
        back, self.lost, self.tries = self.lost, False, 0
        return Event(f"{self.kind} back", f"{self.name}, after {away:.1f} s") if back else None

    def failing(self, why: str) -> Event | None:
        """Note that it does not work; the event is that it does so no longer."""
        self.tries += 1
        if self.lost:
            return None
        self.lost = True
        return Event(f"{self.kind} lost", f"{self.name}: {why}")

    def check(self) -> None:
        """Raise DataError when it has been away for too long."""
        away = time.monotonic() - self.last
        if self.lost and self.give_up is not None and away > self.give_up:
            raise DataError(
                f"{self.name} has given nothing for {away:.0f} s; give_up={self.give_up:g} is how long to wait, "
                "null is for ever"
            )


@dataclass
class Taken:
    """Which frames of a stream are judged: one in so many seconds at most, and only those that are wanted."""

    every: float | None = None
    wanted: Wanted | None = None
    slot: int = -1

    def due(self, at: float) -> bool:
        """Whether a frame at this time (s) is worth decoding."""
        return self.every is None or self._slot(at) != self.slot

    def takes(self, at: float, pixels: np.ndarray) -> bool:
        """Whether this frame, which is due, is judged; then no other of its time slot is."""
        if self.wanted is not None and not self.wanted(pixels):
            return False
        self.slot = self._slot(at)
        return True

    def _slot(self, at: float) -> int:
        return int(at / self.every + 1e-6) if self.every else -1  # a film's times are multiples, give or take rounding


def growing(first: float, failures: int) -> float:
    """Seconds to wait after so many failures in a row, each time twice as many."""
    return min(LONGEST, first * 2.0 ** min(failures - 1, 10))


def stamp(time: datetime) -> str:
    """ISO 8601 with the offset, to the microsecond."""
    return time.isoformat(timespec="microseconds")


def frame_reader(channels: int, white: int) -> Read:
    """A function from what OpenCV grabs (BGR or gray) to what the inspector judges."""

    def read(frame: np.ndarray) -> np.ndarray:
        if frame.ndim == 3 and frame.shape[2] == 3:
            frame = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        return converted(of_array(frame), channels=channels, white=white)

    return read
