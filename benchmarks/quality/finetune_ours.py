"""Our side of `finetune_peers`: `visionft finetune` as a user calls it, within a time from files to the saved run.

What a run does besides training steps (reading, frozen features and their probe, validation, report) is measured by a
run of one step, which leaves nothing behind, as the peers' epochs are; `minutes=` gets the rest of the time.
"""

from __future__ import annotations

import csv
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import visionft as vf
from benchmarks.peers.job import Answer, Facts, Job, Start, versions
from visionft.data.records import Table
from visionft.kernels import keep_memory

LEAST = 0.1  # of the time, for training, however long everything else takes


def ready(job: Job) -> Start:
    """`finetune` with its defaults."""
    return _timed(job)


def probe(job: Job) -> Start:
    """A probe on frozen features; it takes as long as it takes."""
    return lambda: _run(job, tune="probe")


def auto(job: Job) -> Start:
    """The ladder; all its rungs are counted in what it does besides training."""
    return _timed(job, {"tune": "auto"}, {"tune": "auto:all"})


def _timed(job: Job, keys: dict[str, Any] | None = None, whole: dict[str, Any] | None = None) -> Start:
    keys = keys or {}
    began = time.perf_counter()
    _run(job, **(whole or keys), steps=1)
    besides = time.perf_counter() - began
    minutes = max(LEAST * job.seconds, job.seconds - besides) / 60
    return lambda: _run(job, **keys, minutes=minutes)


def _run(job: Job, **keys: Any) -> tuple[Answer, Facts]:
    keep_memory()  # as the command line does
    place = Path(tempfile.mkdtemp(dir=Path(job.answers).parent))
    os.environ["VISIONFT_CACHE"] = str(place / "cache")  # what another run has decoded or computed is not for this one
    done = vf.finetune(
        str(_table(job, place / "images.csv")), backbone=job.backbone, weights=job.weights, size=job.size,
        seed=job.seed, test=0, out=str(place / "run"), quiet=True, **keys,
    )  # fmt: skip
    fitted = done.fitted
    facts: Facts = {"steps": fitted.steps, "precision": fitted.precision, "stopped": fitted.stopped} if fitted else {}
    asked = {key: round(value, 3) if isinstance(value, float) else value for key, value in keys.items()}
    facts |= {"keys": asked, "installed": versions("torch", "timm")}
    return lambda files: _answer(job, place / "run", files), facts


def _answer(job: Job, run: Path, files: Sequence[str]) -> npt.NDArray[np.float32]:
    """Of the run as it was saved."""
    model = vf.Predictor.load(run)
    told = model.probabilities(model.decode(Table.of([*files])))
    return told.numpy()[:, [model.classes.index(name) for name in job.classes]].astype(np.float32)


def _table(job: Job, path: Path) -> Path:
    """A CSV of the images with labels alone: the others are for the parent to ask about."""
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["path", "label"])
        out.writerows((image, job.classes[label]) for image, label in zip(*job.files("train"), strict=True))
    return path
