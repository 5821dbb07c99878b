"""A finished run with its last layer refitted so that groups count alike: another run folder, like any."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
import yaml

from visionft import checkpoint, config, runs
from visionft.data.prepare import prepare
from visionft.errors import ConfigError, DataError
from visionft.evaluation import rebalance as balance
from visionft.evaluation.classification import summarise
from visionft.evaluation.decision import Decision
from visionft.evaluation.probe import Probe
from visionft.evaluation.rebalance import Rebalanced
from visionft.evaluation.worth import Labelled
from visionft.log import Console
from visionft.recipe import Finetune

from .parts import Parts
from .predictor import Predictor


def rebalance(run: str | Path, *, out: str | Path, data: Any = None, console: Console | None = None) -> Rebalanced:
    """Refit the last layer of a run on its validation images, or on `data`, and write the result to `out`.

    `data` is a labelled source with groups whose images the run has not learnt from. Decisions (temperature,
    thresholds) of the run do not hold for another last layer and are dropped. Raises ConfigError when the validation
    images were learnt from or there are several networks, DataError when groups are missing or too small.
    """
    console, folder = console or Console(), Path(run)
    predictor, info = Predictor.load(folder), runs.info(folder)
    recipe = config.load(Finetune, yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8")))
    if len(predictor.networks) > 1:
        raise ConfigError(f"{run} is an ensemble, which has no one last layer; finetune again with folds=1")
    if data is None and (recipe.refit or info["fitted"] is None):  # a probe is solved with all labels
        raise ConfigError(f"the last layer of {run} has learnt from its validation images; name others: data=...")
    source = recipe if data is None else dataclasses.replace(recipe, data=data)
    ready = prepare(source, console, labelled=True)
    parts = Parts.deal(ready, recipe) if data is None else None
    held = parts.val if parts else Labelled(ready.table, ready.pixels)
    if not held.table.grouped:
        raise DataError(f"{ready.table.source} names no groups; a CSV with the columns path, label and group does")
    if tuple(held.table.classes) != predictor.classes:
        raise DataError(f"{run} knows {', '.join(predictor.classes)}; the data has {', '.join(held.table.classes)}")
    model = predictor.model
    head = Probe(model.head.weight.detach().clone(), model.head.bias.detach().clone(), 0.0)
    z = held.features(model.backbone, recipe.size, progress=console.progress("features"))
    found = balance.rebalance(z, held.labels, held.table.groups, head, classes=predictor.classes, seed=recipe.seed)
    console.say(found.words)
    with torch.no_grad():
        model.head.weight.copy_(found.weight)
        model.head.bias.copy_(found.bias)
    predictor.decision = Decision.plain(len(predictor.classes))
    _write(Path(out), predictor, recipe, ready.table.fingerprint, info, found, parts)
    return found


def _write(
    out: Path, predictor: Predictor, recipe: Finetune, images: str, info: dict[str, Any], found: Rebalanced,
    parts: Parts | None,
) -> None:  # fmt: skip
    runs.begin(out, dataclasses.replace(recipe, out=str(out)), images)
    about = {"rebalanced": found.facts(), "decision": predictor.decision.facts()}
    if parts and len(parts.test.table):
        test = parts.test
        p = predictor.probabilities(test.pixels)
        metrics = summarise(p, test.labels, classes=predictor.classes, groups=test.table.groups)
        about["metrics"] = {**info["metrics"], "rebalanced": metrics}
    checkpoint.finish(out, predictor.model, json.loads(json.dumps({**info, **about})))
