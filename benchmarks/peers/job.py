"""One contestant of a fine-tuning comparison, in a process and an environment of its own.

PYTHON -m benchmarks.peers.job TOOL JOB     TOOL is one of TOOLS, JOB the JSON of a `Job`; PYTHON has what TOOL imports

It prints what the parent asks for as a line `reply {...}`, and leaves the probabilities of the test images in
`Job.answers`. Imports, and runs that measure how many epochs fit the time, are over when the clock starts; reading the
training images, building the network and training it are what is timed; answering for the test images is not.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib
import importlib.metadata
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

TOOLS = {  # name -> the function that makes it ready
    "fastai": "benchmarks.peers.fastai_fine_tune:ready",
    "timm": "benchmarks.peers.timm_loop:ready",
    "peft": "benchmarks.peers.peft_lora:ready",
    "ours": "benchmarks.quality.finetune_ours:ready",
    "ours, probe": "benchmarks.quality.finetune_ours:probe",
    "ours, auto": "benchmarks.quality.finetune_ours:auto",
}
PACED = 256  # images of which an epoch is measured
WORKERS = (0, 2)

Answer = Callable[[Sequence[str]], npt.NDArray[np.float32]]  # files -> probabilities, N C, in the order of job.classes
Facts = dict[str, Any]
Start = Callable[[], tuple[Answer, Facts]]  # what is timed


@dataclass(frozen=True)
class Job:
    """What every contestant is given."""

    table: str  # a CSV with the columns path, label and split (train or test)
    classes: list[str]
    backbone: str  # a timm model
    weights: str  # a safetensors file with timm's names, without a head
    size: int  # side of the square that the network sees, pixels
    seconds: float  # wall time for training
    seed: int
    threads: int
    answers: str  # the .npy to write

    def files(self, split: str) -> tuple[list[str], list[int]]:
        """The images of a part, and the places of their labels among the classes."""
        with Path(self.table).open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        return [row["path"] for row in rows], [self.classes.index(row["label"]) for row in rows]


@dataclass(frozen=True)
class Order:
    """How an epoch-wise trainer shall train."""

    job: Job
    files: Sequence[str]
    labels: Sequence[int]
    epochs: int
    workers: int
    passed: Callable[[], None] = lambda: None  # to be called after every pass over the files


@dataclass(frozen=True)
class Pace:
    """Seconds of an epoch, and of all that comes before the first."""

    epoch: float
    setup: float

    def epochs(self, seconds: float, before: int = 0) -> int:
        """Epochs that fill this time, the last one perhaps running over it; `before` passes are made besides."""
        return max(1, math.ceil((seconds - self.setup) / self.epoch - 1e-9) - before)


def paced(job: Job, train: Callable[[Order], Answer], before: int = 0) -> Start:
    """Make an epoch-wise trainer ready: as many epochs as fill the time, with the better number of workers.

    `before` is the number of passes over the images that it makes besides those it is told to.
    """
    files, labels = job.files("train")
    paces = {workers: _pace(job, train, workers, before) for workers in WORKERS}
    workers = min(paces, key=lambda found: paces[found].epoch)
    epochs = paces[workers].epochs(job.seconds, before)

    def start() -> tuple[Answer, Facts]:
        return train(Order(job, files, labels, epochs, workers)), {"epochs": epochs + before, "workers": workers}

    return start


def _pace(job: Job, train: Callable[[Order], Answer], workers: int, before: int) -> Pace:
    """Train for two epochs on some of the images: the second says what one takes."""
    files, labels = job.files("train")
    few = min(PACED, len(files))
    some = np.random.default_rng(0).permutation(len(files))[:few].tolist()
    ends: list[float] = []
    began = time.perf_counter()
    order = Order(job, [files[at] for at in some], [labels[at] for at in some], 2, workers,
                  lambda: ends.append(time.perf_counter()))  # fmt: skip
    train(order)
    last = ends[-1] - ends[-2]
    return Pace(last * len(files) / few, max(0.0, ends[-1] - began - (2 + before) * last))


def versions(*packages: str) -> dict[str, str]:
    """Of this environment, which need not be that of the parent."""
    return {package: importlib.metadata.version(package) for package in packages}


def main() -> None:
    """Train once and answer."""
    tool, words = sys.argv[1:]
    job = Job(**json.loads(words))
    began = time.perf_counter()
    import torch

    torch.set_num_threads(job.threads)
    module, name = TOOLS[tool].split(":")
    make: Callable[[Job], Start] = getattr(importlib.import_module(module), name)
    imports = time.perf_counter() - began
    start = make(job)
    began = time.perf_counter()
    answer, facts = start()
    seconds = time.perf_counter() - began
    np.save(job.answers, answer(job.files("test")[0]))
    told = {"seconds": round(seconds, 2), "import_seconds": round(imports, 2), **facts}
    print("reply", json.dumps(told), flush=True)


def words_of(job: Job) -> str:
    """The job as the child reads it."""
    return json.dumps(dataclasses.asdict(job))


if __name__ == "__main__":
    main()
