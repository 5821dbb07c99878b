"""A folder into which photos are dropped: each is judged once, in the order of arrival, also across restarts."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visionft.data.sources import EXTENSIONS
from visionft.data.tables import natural
from visionft.errors import DataError, first_line

from .shots import Event, Outage, Shot, Shots

POLL = 0.5  # seconds between two looks at the folder

Known = set[tuple[str, datetime]]  # photos, by name and time of change


class State(NamedTuple):
    """What a file is like at a moment; while it is being written, that changes."""

    size: int
    changed: int  # ns

    @property
    def time(self) -> datetime:
        """To the microsecond, as it is written to the log and read from there."""
        return datetime.fromtimestamp(self.changed // 1000 / 1e6, tz=UTC).astimezone()


class Inbox:
    """Photos of a folder and its subfolders, each when its size and time are the same in two looks at the folder.

    A photo is known by its name and its time: one that is overwritten is another photo. What is known already is told
    by whoever kept the log. A file that cannot be opened is tried again in every look; one that cannot be decoded is
    an event, and comes again when it has changed. Where the process is killed, the photo in hand comes again.
    """

    patient, alike = True, False

    def __init__(
        self, folder: Path, decode: Callable[[bytes], np.ndarray], judged: Callable[[], Known] = set, *,
        give_up: float | None = 60.0,
    ) -> None:  # fmt: skip
        self.name, self.folder, self.decode = str(folder), folder, decode
        self.judged, self.outage = judged, Outage("folder", self.name, give_up)
        self.known, self.done, self.blocked = Known(), dict[str, State](), set[str]()

    def shots(self) -> Shots:
        """For ever. Raises DataError when the folder is away for too long."""
        self.known, before = self.judged(), dict[str, State]()
        while True:
            began = time.monotonic()
            try:
                seen = dict(_look(self.name))
            except OSError as error:
                event = self.outage.failing(first_line(error))
                self.outage.check()
            else:
                event = self.outage.fine()
                yield from self._settled(before, seen)
                before = seen
            took = time.monotonic() - began
            yield event
            time.sleep(max(POLL, 4 * took))  # looking at many photos is not to take all the time there is

    def _settled(self, before: Mapping[str, State], seen: Mapping[str, State]) -> Shots:
        """Photos that are new and have not changed between two looks."""
        new = [name for name, state in seen.items() if before.get(name) == state != self.done.get(name)]
        for name in sorted(new, key=lambda name: (seen[name].changed, natural(name))):
            if (name, seen[name].time) in self.known:
                self.done[name] = seen[name]
            elif came := self._shot(name, seen[name]):
                yield came

    def _shot(self, name: str, state: State) -> Shot | Event | None:
        grabbed = time.perf_counter()
        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            told = name in self.blocked
            self.blocked.add(name)
            return None if told else Event("waits", f"it cannot be opened: {error.strerror}", name)
        self.blocked.discard(name)
        self.done[name] = state
        try:
            return Shot(name, state.time, grabbed, self.decode(data))
        except DataError as error:
            return Event("unreadable", str(error), name, state.time)


def _look(folder: str, above: str = "") -> Iterator[tuple[str, State]]:
    """The photos in a folder and its subfolders, without what is hidden. Raises OSError where it cannot be read."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{above}{entry.name}"
            with contextlib.suppress(FileNotFoundError):  # taken away just now
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _look(entry.path, f"{name}/")
                elif entry.name.rpartition(".")[2].lower() in EXTENSIONS:
                    status = entry.stat()
                    yield name, State(status.st_size, status.st_mtime_ns)
