"""What every benchmark shares: contestants timed in turn, the machine described, one JSON file written."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
VERSIONS = ("torch", "torchvision", "timm", "lightly", "albumentations", "opencv-python", "numpy")


def interleave(
    cases: Mapping[str, Callable[[], object]],
    repeats: int,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time every case in turn, `repeats` rounds of it; returns seconds per case in order of the rounds.

    In turn, because a machine's speed drifts: what disturbs one contestant disturbs its neighbour too. The `warmup`
    calls before it are not timed: the first bf16 steps of a shape compile kernels for seconds. With one thread,
    `time.process_time` does not count what busy neighbours take.
    """
    for case in cases.values():
        for _ in range(warmup):
            case()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            began = clock()
            case()
            seconds[name].append(clock() - began)
    return seconds


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each case: one disturbed round does not move it."""
    return {name: statistics.median(each) for name, each in seconds.items()}


def matmul_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """GFLOP/s of a square matrix product: the ceiling that a training step is measured against."""
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    seconds = medians(interleave({"product": lambda: left @ right}, repeats=7))
    return 2 * size**3 / seconds["product"] / 1e9


def write(name: str, rows: Sequence[Mapping[str, Any]], command: str, by: str | None = None) -> Path:
    """Write `results/NAME.json`: the rows with the command, machine, versions and date that they belong to.

    With `by`, rows of earlier runs stay, each with its own `command` and `date`, unless these have the same value
    there; those of another machine or installation name that, too.
    """
    if any({"machine", "versions"} & row.keys() for row in rows):
        raise ValueError("machine and versions are those of the file; what else a contestant runs on is `installed`")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    now = {"command": command, "date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    if by:
        values = {row[by] for row in rows}
        rows = [*(row for row in _rows(name) if row[by] not in values), *(dict(row) | now for row in rows)]
    facts = {"name": name, "command": command, "machine": machine(), "versions": versions(), "date": now["date"]}
    path.write_text(json.dumps({**facts, "rows": list(rows)}, indent=2) + "\n")
    return path


def earlier(name: str) -> list[dict[str, Any]]:
    """The rows of `results/NAME.json` that this machine and installation made: others must be measured again here."""
    return [row for row in _rows(name) if "machine" not in row and "versions" not in row]


def _rows(name: str) -> list[dict[str, Any]]:
    """The rows of `results/NAME.json`, each with its command and date, and with a machine and versions not of here."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return []
    found, here = json.loads(path.read_text()), {"machine": machine(), "versions": versions()}
    head = {key: found[key] for key in ("command", "date", *here) if key in found}
    rows = [{**head, **row} for row in found["rows"]]
    return [{key: value for key, value in row.items() if key not in here or here[key] != value} for row in rows]


def machine() -> dict[str, Any]:
    """The processor, its cores and memory, and the threads torch uses: what a reader needs to compare, no names."""
    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": platform.system(),
    }
    return facts | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def versions() -> dict[str, str]:
    """The installed versions of Python and of the packages that decide speed."""
    found = {"python": platform.python_version()}
    for package in VERSIONS:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # a variant, such as opencv-python-headless
            continue
    return found


def _cpu_model() -> str:
    with Path("/proc/cpuinfo").open() as lines:
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
