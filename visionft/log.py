"""Where a run says what it does: a console line with the time left, metrics.jsonl, and any callable."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from .atomic import write_text

Sink = Callable[[int, dict[str, float]], None]


class Console:
    """Plain lines, and one line that is rewritten in place while something runs (now and then when not a terminal)."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.stream, self.quiet = stream or sys.stderr, quiet
        self.live = self.stream.isatty()
        self.shown, self.open = 0.0, False

    def say(self, text: str = "") -> None:
        """Print a line that stays."""
        if not self.quiet:
            self._end()
            print(text, file=self.stream, flush=True)

    def bar(self, share: float, text: str, left: float | None = None) -> None:
        """Show how far something is, in a line of the kind that `line` shows."""
        full = round(24 * min(1.0, share))
        whole = f"[{'#' * full}{'.' * (24 - full)}] {share:4.0%} {text}{f'  {clock(left)} left' if left else ''}"
        self.line(whole, last=share >= 1)

    def line(self, text: str, *, last: bool = False) -> None:
        """Show a line until the next one comes, at most ten times a second (every ten seconds in a file)."""
        now = time.monotonic()
        if self.quiet or (now - self.shown < (0.1 if self.live else 10) and not last):
            return
        self.shown = now
        if self.live:
            print(f"\r\x1b[2K{text[:158]}", end="\n" if last else "", file=self.stream, flush=True)
            self.open = not last
        else:
            print(text, file=self.stream, flush=True)

    def progress(self, what: str) -> Callable[[int, int], None]:
        """A callback for work that counts: (done, total)."""
        began = time.monotonic()

        def report(done: int, total: int) -> None:
            spent = time.monotonic() - began
            if spent > 1 or self.open:  # what takes less needs no bar
                self.bar(done / max(1, total), f"{what} {done}/{total}", spent * (total - done) / max(1, done))

        return report

    def _end(self) -> None:
        if self.open:
            print(file=self.stream)
            self.open = False


class Laps:
    """Seconds by phase of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.at = time.perf_counter()

    def end(self, phase: str) -> None:
        """Give the time since the last phase ended to this one."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.at
        self.at = now


def console_sink(console: Console, what: str) -> Sink:
    """Show training as a bar, and evaluations as lines."""

    def sink(step: int, metrics: Mapping[str, float]) -> None:
        if "seconds_left" in metrics:
            speed = f"{metrics['images_per_second']:.0f} img/s"
            text = f"{what} step {step}  loss {metrics['loss']:.3f}  {speed}"
            console.bar(metrics["progress"], text, metrics["seconds_left"])
        elif metrics:
            shown = "  ".join(f"{k} {v:.4g}" for k, v in metrics.items() if "/" not in k)
            console.say(f"  step {step}: {shown}")

    return sink


def file_sink(path: Path, since: int) -> Sink:
    """Append to metrics.jsonl; lines after step `since`, left by a run that was killed, are dropped first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [row for row in read_metrics(path) if row["step"] <= since] if since else []
    write_text(path, "".join(json.dumps(row) + "\n" for row in kept))

    def sink(step: int, metrics: Mapping[str, float]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

    return sink


def tensorboard_sink(folder: Path) -> Sink:
    """Write scalars for TensorBoard (extra `tensorboard`)."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def sink(step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return sink


def fan(*sinks: Sink) -> Sink:
    """One sink that tells all of these."""

    def sink(step: int, metrics: dict[str, float]) -> None:
        for one in sinks:
            one(step, metrics)

    return sink


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line that was cut off by a kill is not one."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def clock(seconds: float) -> str:
    """1 h 02 min, 3 min 20 s, 12 s."""
    s = round(seconds)
    if s >= 3600:
        return f"{s // 3600} h {s % 3600 // 60:02d} min"
    return f"{s // 60} min {s % 60:02d} s" if s >= 60 else f"{s} s"
