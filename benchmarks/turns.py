"""Contestants in processes of their own that step in turn: each with its own imports, memory and settings.

A parent starts a `Contestant` and calls it for a step; the child's main function ends in `serve(step)`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class Contestant:
    """A child process; calling it does one step and waits for it."""

    def __init__(self, module: str, *words: str, python: str = sys.executable, env: Mapping[str, str] | None = None):
        began = time.perf_counter()
        command = [python, "-m", module, *words]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self()
        self.first_step = time.perf_counter() - began  # seconds from the start of the interpreter

    def __call__(self) -> None:
        self._ask("step")

    def facts(self) -> dict[str, Any]:
        """What the child says about itself, and its peak of memory in GB, that of its workers included."""
        found: dict[str, Any] = self._ask("facts")
        return found

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()

    def _ask(self, word: str) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("reply "):  # whatever else a library prints is not for us
                return json.loads(line.removeprefix("reply "))
        raise RuntimeError(f"{' '.join(map(str, self.process.args))} ended early")  # type: ignore[arg-type]


def serve(step: Callable[[], object], facts: Callable[[], Mapping[str, Any]] = dict) -> None:
    """Answer a parent until it hangs up."""
    for _ in asked(facts):
        step()


def asked(facts: Callable[[], Mapping[str, Any]] = dict) -> Iterator[None]:
    """Go on once for every step that the parent asks for; coming back for the next one says that it is done."""
    for line in sys.stdin:
        answer: dict[str, Any] = {}
        if line.strip() == "step":
            yield
        else:
            answer = {**facts(), "peak_gb": _peak()}
        print("reply", json.dumps(answer), flush=True)


def once(python: str, module: str, *words: str, threads: int) -> dict[str, Any]:
    """What a child process of that Python replies that does one job and ends."""
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([python, "-m", module, *words], env=env, capture_output=True, text=True, check=False)
    told = [line for line in done.stdout.splitlines() if line.startswith("reply ")]
    if done.returncode or not told:
        raise RuntimeError(f"{module} {' '.join(words)[:80]} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(told[-1].removeprefix("reply "))
    return found


def peak_mb() -> float:
    """Of this process: `getrusage` would begin with what its parent held when it started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith("VmHWM"))


def _peak() -> float:
    """Of this process and its largest child, GB."""
    return round((peak_mb() * 1.024 + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3) / 1e3, 2)
