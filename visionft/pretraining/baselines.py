"""Is pretraining worth it? What the same network is worth without it, measured once, before the run begins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from visionft import backbones
from visionft.atomic import write_text
from visionft.backbone import Backbone
from visionft.data.records import fingerprint
from visionft.errors import WeightsError
from visionft.evaluation.worth import Labelled, Worth
from visionft.recipe import Pretrain

FILE = "worth.json"
RANDOM, IMAGENET, START = "random", "ImageNet", "starting"


def measure(recipe: Pretrain, start: Backbone, labelled: Labelled, say: Callable[[str], None]) -> dict[str, Worth]:
    """Random weights, ImageNet weights where this machine has them, and the run's own start if it is neither.

    They are kept in the run folder, and a resumed run reads them there, unless the labelled images are others now.
    """
    file, key = Path(recipe.out) / FILE, _key(labelled)
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["labelled"] == key:
            return {name: Worth.of(facts) for name, facts in found["rows"].items()}
    rows = {}
    for name, backbone in _contestants(recipe, start).items():
        rows[name] = labelled.worth(backbone, recipe.size, store=True)
        say(f"  {name} weights, without this run: {line(rows[name])}")
    facts = {name: worth.facts() for name, worth in rows.items()}
    write_text(file, json.dumps({"labelled": key, "rows": facts}, indent=2))
    return rows


def line(worth: Worth) -> str:
    """Accuracies with their intervals, in words."""
    m = worth.metrics(bounds=True)
    return ", ".join(
        f"{name} {m[f'{key}_accuracy']:.3f} ({m[f'{key}_accuracy_low']:.3f} to {m[f'{key}_accuracy_high']:.3f})"
        for name, key in (("kNN", "knn"), ("probe", "probe"))
    )


def table(rows: Mapping[str, Worth]) -> dict[str, dict[str, float]]:
    """Every row's numbers with their bounds, for run.json."""
    return {name: worth.metrics(bounds=True) for name, worth in rows.items()}


def _contestants(recipe: Pretrain, start: Backbone) -> dict[str, Backbone]:
    own = IMAGENET if start.loaded.imagenet else START if start.loaded.loaded else RANDOM
    found = {RANDOM: start if own == RANDOM else _random(recipe, start)}
    imagenet = start if own == IMAGENET else _imagenet(recipe, start)
    if imagenet:
        found[IMAGENET] = imagenet
    return found | {own: start}


def _random(recipe: Pretrain, start: Backbone) -> Backbone:
    with torch.random.fork_rng(devices=[]):  # the run draws what it would draw without this
        torch.manual_seed(recipe.seed)
        return backbones.load(start.name, "none", channels=recipe.channels, size=recipe.size).to(start.mean.device)


def _imagenet(recipe: Pretrain, start: Backbone) -> Backbone | None:
    try:
        with torch.random.fork_rng(devices=[]):
            made = backbones.load(start.name, channels=recipe.channels, size=recipe.size, local=True)
    except WeightsError:  # none here, or none that fit: the table has a row less
        return None
    return made.to(start.mean.device) if made.loaded.imagenet else None


def _key(labelled: Labelled) -> str:
    return fingerprint([f"{record.digest} {record.label}" for record in labelled.table])
