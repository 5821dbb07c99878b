"""Which backbone suits these labels? Frozen features of each, cross-validated, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from visionft import backbones, preprocessing
from visionft.backbone import Backbone
from visionft.data.prepare import prepare
from visionft.data.views import Views, batches
from visionft.errors import WeightsError
from visionft.evaluation.transferability import logme
from visionft.evaluation.worth import PERCENT, Labelled, Worth, held_out
from visionft.features import EVALUATION
from visionft.log import Console
from visionft.recipe import Finetune
from visionft.tasks.parts import Parts
from visionft.verbs import Rank

SHIFTED = 32  # images whose batch statistics are compared
COLUMNS = ("backbone", "probe", "low", "high", "log-loss", "kNN", "LogME", "shift", "ms/image", "M weights")


@dataclass(frozen=True)
class Ranked:
    """Backbones from the best to the worst, by the log-loss of a cross-validated probe."""

    rows: list[dict[str, Any]]  # keys are COLUMNS
    missing: dict[str, str]  # what could not be had, and why
    words: str

    def lines(self) -> list[str]:
        """A table for a terminal."""
        cells = [[*COLUMNS], *([_shown(row[name]) for name in COLUMNS] for row in self.rows)]
        first, *others = (max(map(len, column)) for column in zip(*cells, strict=True))
        form = "  ".join([f"{{:<{first}}}", *(f"{{:>{wide}}}" for wide in others)])
        table = [form.format(*line) for line in cells]
        return [*table, *(f"{name}: {why}" for name, why in self.missing.items()), self.words]


def rank(recipe: Rank, *, console: Console | None = None) -> Ranked:
    """Judge every backbone on the labelled images that fine-tuning with the same seed does not test on.

    Raises DataError when the labels are too few, WeightsError when no backbone can be had.
    """
    console = console or Console()
    ready = prepare(recipe, console, labelled=True)
    parts = Parts.deal(ready, Finetune(seed=recipe.seed, by_group=recipe.by_group))
    rows, worths, missing = [], dict[str, Worth](), dict[str, str]()
    for name in recipe.backbones:
        network, _, source = str(name).partition("@")
        try:
            backbone = backbones.load(network, source or recipe.weights, channels=recipe.channels, size=recipe.size)
        except WeightsError as error:
            missing[str(name)] = str(error)
            continue
        row, worths[str(name)] = _judged(str(name), backbone, parts, recipe, console)
        rows.append(row)
        console.say(f"  {name}: probe {row['probe']:.3f}, log-loss {row['log-loss']:.4f}")
    if not rows:
        raise WeightsError("; ".join(missing.values()))
    rows.sort(key=lambda row: row["log-loss"])
    return Ranked(rows, missing, _words(rows, worths))


def _judged(
    name: str, backbone: Backbone, parts: Parts, recipe: Rank, console: Console
) -> tuple[dict[str, Any], Worth]:
    some = parts.known
    z = some.features(backbone, recipe.size, progress=console.progress(f"features, {name}"))
    classes = len(some.table.classes)
    worth = held_out(z, some.labels, classes, groups=parts.groups(some)).worth(some.labels)
    found, some_images = worth.metrics(bounds=True), _first(some, recipe)
    row = {
        "backbone": name,
        "probe": found["probe_accuracy"],
        "low": found["probe_accuracy_low"],
        "high": found["probe_accuracy_high"],
        "log-loss": worth.log_loss,
        "kNN": found["knn_accuracy"],
        "LogME": logme(z.numpy(), some.table.labels, classes),
        "shift": preprocessing.shift(backbone, some_images),
        "ms/image": 1e3 * some.seconds(backbone, recipe.size),
        "M weights": sum(p.numel() for p in backbone.parameters()) / 1e6,
        "start": str(backbone.loaded),
    }
    return row, worth


def _first(some: Labelled, recipe: Rank) -> torch.Tensor:
    pixels = [some.pixels[i] for i in range(min(SHIFTED, len(some.table)))]
    views = Views(pixels, EVALUATION, {"image": recipe.size}, channels=recipe.channels)
    images: torch.Tensor = next(batches(views, SHIFTED))["image"]
    return images


def _words(rows: Sequence[Mapping[str, Any]], worths: Mapping[str, Worth]) -> str:
    best, *others = (row["backbone"] for row in rows)
    if not others:
        return f"{best} is the only one."
    close = [name for name in others if worths[best].gain(worths[name])[1] <= 0]
    told = [f"{best} has the lowest log-loss"]
    for name in others:
        mean, low, high = worths[best].gain(worths[name])
        interval = f"95{PERCENT} interval {100 * low:+.1f} to {100 * high:+.1f}"
        told.append(f"its probe is {100 * mean:+.1f} points from that of {name} ({interval})")
    ends = f"not proven better than {', '.join(close)}" if close else "proven better than all others"
    return f"{'; '.join(told)}: {ends}."


def _shown(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.3f}"
