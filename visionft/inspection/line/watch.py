"""The inspector on the line: every photo that comes is judged and the verdict handed on, until it is told to stop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from visionft import config
from visionft.errors import ConfigError, DataError, first_line
from visionft.inspection.drift import Monitor
from visionft.inspection.judging import Judging
from visionft.inspection.verbs import InspectWatch
from visionft.inspection.verdict import Verdict
from visionft.interrupt import interruptible
from visionft.log import Console

from .latency import Latency
from .outlets import Outlets
from .shots import Event, Shot, Source, Wanted, now, stamp
from .source import opened

Told = Callable[[Verdict], object]  # an Event that it returns is said and logged


@dataclass(frozen=True)
class Watched:
    """What came of watching."""

    parts: int
    rejects: int
    unsure: int  # that could be either, for a human to look at
    unjudged: int  # photos that could not be decoded or judged
    dropped: int  # photos of a camera that came faster than they were judged
    p50_ms: float  # from grab to verdict
    p99_ms: float
    slowest_ms: float
    seconds: float
    given_up: dict[str, int]  # what could not be written or sent, by outlet
    ended: str = ""  # why

    def __str__(self) -> str:
        share = f" ({100 * self.rejects / self.parts:.1f} %)" if self.parts else ""
        lost = {f"{name} given up": count for name, count in self.given_up.items()}
        rest = {"unsure": self.unsure, "not judged": self.unjudged, **lost}
        told = [
            f"{self.parts:,} parts", f"{self.rejects:,} rejects{share}",
            f"{self.p50_ms:.1f} ms p50, {self.p99_ms:.1f} ms p99", f"{self.dropped:,} dropped",
            *(f"{count:,} {name}" for name, count in rest.items() if count),
        ]  # fmt: skip
        return "; ".join([*told, self.ended] if self.ended else told)


@dataclass
class Line:
    """An inspector, where its verdicts go, and the tally of both."""

    inspector: Judging
    outlets: Outlets
    told: Sequence[Told]
    console: Console
    latency: Latency = field(default_factory=Latency)
    rejects: int = 0
    unsure: int = 0
    unjudged: int = 0
    dropped: int = 0
    began: float = field(default_factory=time.monotonic)

    def judge(self, shot: Shot, source: Source) -> None:
        """Judge a photo, tell those who listen, then hand the verdict on. DataError only where no photo will do."""
        self.dropped = shot.dropped
        try:
            (verdict,) = self.inspector.judge([shot.pixels], [shot.name])
        except DataError as error:
            if source.alike:
                raise
            self.event(Event("unreadable", str(error), shot.name, shot.time))
            return
        took = time.perf_counter() - shot.grabbed
        self.latency.add(took)
        self.rejects += verdict.reject
        self.unsure += verdict.unsure
        try:
            for tell in self.told:
                if isinstance(event := tell(verdict), Event):
                    self.event(event)
        finally:
            self.outlets.verdict(shot, verdict, took, patient=source.patient)
        if not verdict.passes:
            said = f"{shot.time:%H:%M:%S} {verdict.word}: {shot.name}, p = {verdict.p_value:.3g}"
            self.console.say(", ".join(filter(None, [said, verdict.remark])))

    def event(self, event: Event) -> None:
        """Say and hand on what happened."""
        self.unjudged += event.what == "unreadable"
        self.console.say(str(event))
        self.outlets.event(event)

    def hear(self) -> None:
        """Say and hand on what happened in the outlets' threads."""
        for event in self.outlets.heard():
            self.event(event)

    def watched(self, ended: str = "") -> Watched:
        """The tally so far."""
        p50, p99 = (1000 * self.latency.percentile(percent) for percent in (50, 99))
        return Watched(
            self.latency.counts.total(), self.rejects, self.unsure, self.unjudged, self.dropped, round(p50, 2),
            round(p99, 2), round(1000 * self.latency.slowest, 2), round(time.monotonic() - self.began, 1),
            self.outlets.given_up(), ended,
        )  # fmt: skip

    def end(self, ended: str) -> Watched:
        """Deliver what waits, with the tally as the last word."""
        self.outlets.finish()
        self.hear()
        watched = self.watched(ended)
        self.outlets.close({"time": stamp(now()), "event": "ended", "text": str(watched), **asdict(watched)})
        for event in self.outlets.heard():
            self.console.say(str(event))
        return self.watched(ended)


def watching(
    inspector: Judging, source: Any, *, told: Sequence[Told] = (),
    wanted: Callable[[np.ndarray], bool] | None = None, quiet: bool = False, **words: Any,
) -> Watched:  # fmt: skip
    """Judge what a camera, video or folder brings, as `visionft inspect watch` does, whose keys `words` are.

    `told` hear each verdict at once; `wanted` says of a frame whether a part is there to be judged. A source can also
    be a function that opens a camera: something with grab, retrieve and release, as cv2.VideoCapture has.
    """
    recipe = config.load(InspectWatch, {"source": source, **words})
    return watch(inspector, recipe, told=told, wanted=wanted, console=Console(quiet=quiet))


def watch(
    inspector: Judging, recipe: InspectWatch, *, told: Sequence[Told] = (), wanted: Wanted | None = None,
    console: Console,
) -> Watched:  # fmt: skip
    """Judge what the source brings until it ends, enough parts are judged, or Ctrl-C or SIGTERM comes.

    `told` are called with each verdict, in order and before anything is written, in this thread: they must be quick,
    and what they raise ends it; an Event that one returns is logged as any other. `wanted` says of a camera's or
    video's RGB frame whether a part is there to be judged; for a camera it is called in the thread that grabs.

    Nothing is lost in silence: what was dropped, could not be read, or could not be written or sent is an event and
    counted. However it ends, what waits is delivered first and the tally is the last word.
    Raises DataError when the source cannot be opened or has been away for too long.
    """
    if recipe.source is None:
        raise ConfigError("say what to watch: a camera's number, an address, a video or a folder, such as source=0")
    source = opened(recipe, inspector.images, wanted)
    if recipe.alarm is not None:
        told = [_drift(Monitor.of(inspector, recipe.window, recipe.alarm)), *told]
    line, ended = Line(inspector, Outlets(recipe), told, console), "interrupted"
    try:
        inspector.judge([inspector.gray()], ["gray"])  # the first takes several times as long as any other
        ended = _run(line, source, recipe.stop_after)
    except Exception as error:
        ended = first_line(error)
        raise
    finally:
        watched = line.end(ended)
    return watched


def _drift(monitor: Monitor) -> Told:
    """Turns alarms into events."""

    def tell(verdict: Verdict) -> Event | None:
        found = monitor(verdict)
        return Event("drift", monitor.words(found)) if found else None

    return tell


def _run(line: Line, source: Source, stop_after: int | None) -> str:
    """Returns why it ended."""
    with interruptible() as stopped, contextlib.closing(source.shots()) as shots:
        for came in shots:
            if isinstance(came, Shot):
                line.judge(came, source)
            elif came:
                line.event(came)
            line.hear()
            watched = line.watched()
            line.console.line(str(watched))
            if stopped():
                return "stopped"
            if watched.parts == stop_after:
                return "all parts judged"
    return "the source has ended"
