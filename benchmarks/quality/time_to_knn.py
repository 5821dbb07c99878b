"""Wall time to the kNN accuracy that lightly's own loop reaches after its full budget.

python -m benchmarks.quality.time_to_knn DATA [--backbone resnet18] [--size 64] [--epochs 10] [--budgets 0.125 0.25 0.5]

DATA is anything labelled; both sides pretrain on the same training photos (JPEG or PNG files, without labels) from the
same start, each alone on the machine. lightly's loop runs its epochs; ours runs once for every budget, a share of
lightly's seconds, schedules and all. Budgets include reading and decoding files, not imports. Then the features of both
are judged by the same kNN and linear probe on the same test photos.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import torch
from safetensors.torch import save_file

from benchmarks.harness import write
from benchmarks.peers import lightly_loops
from visionft import backbone as backbones
from visionft.backbone import Backbone
from visionft.data.prepare import Prepared, dealt, prepare
from visionft.evaluation.classification import summarise
from visionft.evaluation.worth import Labelled, floor
from visionft.kernels import keep_memory
from visionft.log import Console
from visionft.pretraining.run import pretrain
from visionft.recipe import Optim, Pretrain

WORKERS = (0, 2)


def lightly(words: argparse.Namespace, photos: Path, out: Path) -> float:
    """Train lightly's example for its epochs, with the better number of workers; returns seconds."""
    rates = {}
    for workers in WORKERS:
        loop = lightly_loops.simclr(words.backbone, words.size, words.batch, photos, workers=workers)
        for _ in range(2):
            loop.step()
        began = time.perf_counter()
        for _ in range(6):
            loop.step()
        rates[workers] = time.perf_counter() - began
    torch.manual_seed(words.seed)
    loop = lightly_loops.simclr(
        words.backbone, words.size, words.batch, photos, workers=min(rates, key=rates.__getitem__)
    )
    if words.weights != "none":
        start = backbones.load(words.backbone, words.weights, size=words.size)
        loop.model.backbone.load_state_dict(start.net.state_dict())  # type: ignore[union-attr]
    steps = words.epochs * (len(list(photos.iterdir())) // words.batch)
    began = time.perf_counter()
    for _ in range(steps):
        loop.step()
    seconds = time.perf_counter() - began
    save_file({k: v.contiguous() for k, v in loop.model.backbone.state_dict().items()}, out)  # type: ignore[union-attr]
    return seconds


def ours(words: argparse.Namespace, photos: Path, minutes: float, out: Path) -> tuple[Backbone, float]:
    """Pretrain for a budget; returns the backbone and the seconds it took, reading and reporting included."""
    began = time.perf_counter()
    recipe = Pretrain(
        data=str(photos), backbone=words.backbone, weights=words.weights, size=words.size, batch=words.batch,
        objective="simclr", minutes=minutes, optim=Optim(lr=words.lr), grow=words.grow, seed=words.seed, out=str(out),
    )  # fmt: skip
    done = pretrain(recipe, console=Console(quiet=True))
    return done.backbone, time.perf_counter() - began


def judge(backbone: Backbone, ready: Prepared, size: int) -> dict[str, float]:
    """Test accuracy of kNN and probe, with intervals."""
    parts = [
        Labelled(*ready.part(i for i, r in enumerate(ready.table) if r.split == name)) for name in ("train", "test")
    ]
    z, z_test = (part.features(backbone, size, store=False) for part in parts)
    _, answers = floor(z, parts[0].labels, z_test, len(ready.table.classes))
    found: dict[str, float] = {}
    for name, p in answers.items():
        metrics = summarise(p, parts[1].labels, classes=ready.table.classes)
        found |= {name: round(metrics["accuracy"], 4), f"{name}_low": round(metrics["accuracy_low"], 4),
                  f"{name}_high": round(metrics["accuracy_high"], 4)}  # fmt: skip
    return found


def photos_of(ready: Prepared, folder: Path) -> Path:
    """The training photos as JPEGs of at most 256 pixels, which is what both sides read."""
    folder.mkdir(parents=True)
    for at, record in enumerate(ready.table):
        if record.split == "train":
            image = ready.pixels[at]
            scale = min(1.0, 256 / min(image.shape[:2]))
            small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(folder / f"{at:06d}.jpg"), small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    return folder


def main() -> None:
    """lightly's full budget, then ours for shares of it; the smallest that suffices is the speedup."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.125, 0.25, 0.5])
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--grow", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    keep_memory()
    with tempfile.TemporaryDirectory() as place:
        whole = Pretrain(data=words.data, size=256, cache="ram")
        ready = dealt(prepare(whole, Console(quiet=True), labelled=True), words.seed)
        photos = photos_of(ready, Path(place) / "photos")
        small = dataclasses.replace(whole, size=words.size)
        ready = dealt(prepare(small, Console(quiet=True), labelled=True), words.seed)
        file = Path(place) / "lightly.safetensors"
        theirs = lightly(words, photos, file)
        base = {"data": words.data, "backbone": words.backbone, "weights": words.weights, "size": words.size}
        model = backbones.load(words.backbone, str(file), size=words.size)
        rows = [
            base | {"side": "lightly", "seconds": round(theirs, 1), "budget": 1.0} | judge(model, ready, words.size)
        ]
        print(rows[-1], flush=True)
        for budget in sorted(words.budgets):
            backbone, seconds = ours(words, photos, budget * theirs / 60, Path(place) / f"ours-{budget}")
            rows.append(
                base
                | {"side": "ours", "seconds": round(seconds, 1), "budget": budget}
                | judge(backbone, ready, words.size)
            )
            print(rows[-1], flush=True)
        enough = [row["seconds"] for row in rows[1:] if row["knn"] >= rows[0]["knn"]]
        rows.append(summary(base, theirs, enough))
    print(rows[-1])
    command = (
        f"python -m benchmarks.quality.time_to_knn {words.data} --backbone {words.backbone} --weights {words.weights}"
    )
    print(write("time_to_knn", rows, f"{command} --size {words.size} --epochs {words.epochs} --grow {words.grow:g}"))


def summary(base: dict[str, Any], theirs: float, enough: list[float]) -> dict[str, Any]:
    """The headline; null where no budget sufficed."""
    best = min(enough, default=None)
    return base | {"lightly_s": round(theirs, 1), "ours_s": best, "speedup": round(theirs / best, 2) if best else None}


if __name__ == "__main__":
    main()
