"""What comparisons with lightly share: the same photos for both sides, its loop and our run, one judge for both."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.peers import lightly_loops
from benchmarks.peers.lightly_loops import PeerLoop
from visionft import backbones
from visionft.backbone import Backbone
from visionft.data.prepare import Prepared, dealt, prepare
from visionft.evaluation.classification import summarise
from visionft.evaluation.worth import Labelled, floor
from visionft.log import Console
from visionft.pretraining.run import pretrain
from visionft.recipe import Pretrain

WORKERS = (0, 2)
LARGEST = 256  # short side of the photos that both sides read, pixels
TRAINED: dict[str, Callable[[Any], Any]] = {  # where an example keeps what it trains
    "simclr": lambda model: model.backbone,
    "dino": lambda model: model.teacher,
    "mae": lambda model: model.encoder.vit,
}


@dataclass(frozen=True)
class Case:
    """What both sides are given."""

    objective: str
    backbone: str
    size: int
    batch: int = 64
    weights: str = "none"


@dataclass(frozen=True)
class Photos:
    """Labelled images, dealt to training and test, and the training ones as files without labels."""

    ready: Prepared
    folder: Path

    @classmethod
    def of(cls, data: str, size: int, folder: Path) -> Photos:
        """Read a labelled source; its training images are written as JPEGs."""
        recipe = Pretrain(data=data, size=LARGEST, cache="ram")
        ready = dealt(prepare(recipe, Console(quiet=True), labelled=True), 0)
        folder.mkdir(parents=True)
        for at, record in enumerate(ready.table):
            if record.split == "train":
                image = ready.pixels[at]
                scale = min(1.0, LARGEST / min(image.shape[:2]))
                small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                cv2.imwrite(str(folder / f"{at:06d}.jpg"), small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        return cls(
            dealt(prepare(dataclasses.replace(recipe, size=size), Console(quiet=True), labelled=True), 0), folder
        )

    def __len__(self) -> int:
        return len(list(self.folder.iterdir()))


def lightly(case: Case, photos: Photos, steps: int, seed: int, out: Path) -> tuple[Backbone, float]:
    """Train lightly's example for some steps, with the better number of workers: the backbone and the seconds."""
    torch.manual_seed(seed)
    loop = _loop(case, photos, _better_workers(case, photos))
    net = TRAINED[case.objective](loop.model)
    if case.weights != "none":
        net.load_state_dict(backbones.load(case.backbone, case.weights, size=case.size).net.state_dict())
    began = time.perf_counter()
    for _ in range(steps):
        loop.step()
    seconds = time.perf_counter() - began
    save_file({k: v.contiguous().clone() for k, v in net.state_dict().items()}, out)
    return backbones.load(case.backbone, str(out), size=case.size), seconds


def _better_workers(case: Case, photos: Photos) -> int:
    rates = {}
    for workers in WORKERS:
        loop = _loop(case, photos, workers)
        for _ in range(2):
            loop.step()
        began = time.perf_counter()
        for _ in range(6):
            loop.step()
        rates[workers] = time.perf_counter() - began
    return min(rates, key=rates.__getitem__)


def _loop(case: Case, photos: Photos, workers: int) -> PeerLoop:
    make: Callable[..., PeerLoop] = getattr(lightly_loops, case.objective)
    return make(case.backbone, case.size, case.batch, photos.folder, workers=workers)


def ours(case: Case, photos: Photos, out: Path, **recipe: Any) -> tuple[Backbone, float]:
    """Pretrain as a user would: the backbone and the seconds it took, reading and reporting included."""
    began = time.perf_counter()
    made = Pretrain(data=str(photos.folder), out=str(out), **dataclasses.asdict(case), **recipe)
    return pretrain(made, console=Console(quiet=True)).backbone, time.perf_counter() - began


@dataclass(frozen=True)
class Judged:
    """Which test images the frozen features told right."""

    hits: dict[str, np.ndarray]  # knn and probe -> N of 0 and 1
    bounds: dict[str, tuple[float, float]]

    def row(self) -> dict[str, float]:
        """Accuracies with 95 % intervals over the test images."""
        found: dict[str, float] = {}
        for name, hits in self.hits.items():
            low, high = self.bounds[name]
            found |= bounded(name, float(hits.mean()), low, high)
        return found


def bounded(name: str, mean: float, low: float, high: float) -> dict[str, float]:
    """A number and its interval, as rows hold them."""
    return {name: round(mean, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}


def judge(backbone: Backbone, ready: Prepared, size: int) -> Judged:
    """The same kNN and linear probe for everybody, on the test images."""
    train, test = (
        Labelled(*ready.part(i for i, r in enumerate(ready.table) if r.split == name)) for name in ("train", "test")
    )
    z, z_test = (part.features(backbone, size, store=False) for part in (train, test))
    _, answers = floor(z, train.labels, z_test, len(ready.table.classes))
    hits, bounds = {}, {}
    for name, p in answers.items():
        metrics = summarise(p, test.labels, classes=ready.table.classes)
        hits[name] = (p.argmax(1) == test.labels).numpy().astype(np.float64)
        bounds[name] = metrics["accuracy_low"], metrics["accuracy_high"]
    return Judged(hits, bounds)
