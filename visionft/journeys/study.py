"""How many labels is pretraining worth here? Four starts, growing shares of the labels, the same test images."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visionft import backbones, config, objective, runs
from visionft.atomic import write_text
from visionft.chapters.studied import luck, studied_report
from visionft.data.prepare import Prepared, prepare
from visionft.data.split import first_of_each, folds
from visionft.errors import ConfigError
from visionft.evaluation.efficiency import Curve, curve, grouped, joined, verdict
from visionft.evaluation.starts import OWN, USUAL, Start
from visionft.log import Console
from visionft.pretraining.run import pretrain
from visionft.recipe import Finetune, Pretrain
from visionft.tasks.run import finetune
from visionft.verbs import Study

PARTS = 4  # of all images; one part is the test set of a fold


@dataclasses.dataclass
class Studied:
    """A finished study: one row a cell, and a curve for every (start, answer)."""

    out: Path
    rows: list[dict[str, Any]]
    curves: dict[tuple[str, str], Curve]
    words: str


def study(recipe: Study, *, console: Console | None = None) -> Studied:
    """Run every cell (fold, start, share of labels, seed) that is not there yet, and write `out` with a report.

    Test images are held out and never trained on, with or without labels: photos of `unlabeled` that are among them
    are left out. Raises ConfigError before any training, also where `out` holds cells of another study.
    """
    console = console or Console()
    _check(recipe)
    out = Path(recipe.out)
    ready = prepare(recipe, console, labelled=True)
    parts, photos = _folds(recipe, ready), _photos(recipe, console)
    images = [some.table.fingerprint for some in (ready, photos) if some]
    runs.begin(out, recipe, " ".join(images), grows=("starts", "fractions", "seeds", "folds"))
    count, labels = len(parts) * len(_cells(recipe)), len(_places(parts[0], "train"))
    console.say(f"{count} cells: {len(parts)} folds x {len(recipe.starts)} starts x {len(recipe.fractions)} shares of "
                f"{labels} labels x {recipe.seeds} seeds; what is finished in {out} is not done again")  # fmt: skip
    told = console.progress("cells")
    rows: list[dict[str, Any]] = []
    for fold, ready in enumerate(parts):
        place = out / f"fold-{fold}"
        seen = _unheld(photos or ready, ready, console)
        homes = {start: _start(recipe, Start(start), seen, place, console) for start in recipe.starts}
        for at, (start, fraction, seed) in enumerate(_cells(recipe), 1):
            done = _cell(recipe, homes[start], start, ready, place, fraction, seed)
            rows += [{"fold": fold, **row} for row in done]
            told(fold * len(_cells(recipe)) + at, count)
    judged = joined(rows)
    curves = {key: curve(some) for key, some in grouped(judged, "start", "answer").items()}
    words = verdict(judged)
    console.say(words)
    console.say(luck(recipe.folds))
    studied_report(recipe, parts[0].table.source, judged, words)
    short = [{key: value for key, value in row.items() if key != "hits"} for row in rows]
    write_text(out / "study.json", json.dumps(short, indent=2))
    return Studied(out, rows, curves, words)


def _cells(recipe: Study) -> list[tuple[str, float, int]]:
    return [(s, f, n) for s in recipe.starts for f in recipe.fractions for n in range(recipe.seeds)]


def _folds(recipe: Study, ready: Prepared) -> list[Prepared]:
    """The images, each time with another part as the test split; as they are where the source names one."""
    if {"train", "test"} <= {r.split for r in ready.table}:
        if recipe.folds > 1:
            named = f"{ready.table.source} names its own test images, which are one fold"
            raise ConfigError(f"folds={recipe.folds}: {named}; say folds=1")
        return [ready]
    tests = [frozenset(part) for part in folds(ready.table, PARTS, seed=recipe.seed)[: recipe.folds]]
    return [
        dataclasses.replace(ready, table=dataclasses.replace(ready.table, records=tuple(
            dataclasses.replace(record, split="test" if at in test else "train")
            for at, record in enumerate(ready.table)
        )))
        for test in tests
    ]  # fmt: skip


def _places(ready: Prepared, split: str) -> list[int]:
    return [at for at, record in enumerate(ready.table) if record.split == split]


def _check(recipe: Study) -> None:
    starts = [Start(str(name)) for name in recipe.starts]
    if unknown := [start.name for start in starts if not start.known]:
        raise ConfigError(f"starts={unknown[0]} is unknown{config.suggest(unknown[0], USUAL)}; an objective can be "
                          "named, too: imagenet+vicreg")  # fmt: skip
    for start in starts:
        objective.find(recipe.objective if start.by in ("", OWN) else start.by)
    if any(start.pretrained for start in starts):
        if recipe.weights == "none":
            raise ConfigError("weights=none leaves no pretrained start; set starts=[scratch,ssl]")
        backbones.load(recipe.backbone, recipe.weights, channels=recipe.channels, size=recipe.size)
    config.load(Finetune, recipe.finetune)
    config.load(Pretrain, recipe.pretrain)


def _photos(recipe: Study, console: Console) -> Prepared | None:
    """The photos to pretrain on, where they are not the training images."""
    if recipe.unlabeled is None:
        return None
    return prepare(dataclasses.replace(recipe, data=recipe.unlabeled, bad="skip"), console, labelled=False)


def _unheld(photos: Prepared, ready: Prepared, console: Console) -> Prepared:
    """The photos without this fold's test images, by content."""
    test = {ready.table[at].digest for at in _places(ready, "test")}
    places = [at for at, record in enumerate(photos.table) if record.digest not in test]
    if photos is not ready and len(places) < len(photos.table):
        console.say(
            f"{len(photos.table) - len(places)} of {len(photos.table)} unlabeled photos are test images: left out"
        )
    return _part(photos, places)


def _start(recipe: Study, start: Start, photos: Prepared, place: Path, console: Console) -> dict[str, str]:
    """Backbone and weights of a start; pretrains it once if it is self-supervised."""
    weights = recipe.weights if start.pretrained else "none"
    if not start.by:
        return {"backbone": recipe.backbone, "weights": weights}
    home = place / f"pretrain-{start.name}"
    if not (home / "run.json").is_file():
        given = {**_budget(recipe.pretrain, minutes=5.0), **_images(recipe), **recipe.pretrain}
        how = recipe.objective if start.by == OWN else start.by
        made = config.load(Pretrain, given, {"weights": weights, "objective": how, "out": str(home)})
        console.say(f"pretraining for the start {start.name!r}")
        pretrain(dataclasses.replace(made, seed=recipe.seed), console=console, prepared=photos)
    return {"backbone": str(home), "weights": "auto"}


def _cell(
    recipe: Study,
    home: Mapping[str, str],
    start: str,
    ready: Prepared,
    place: Path,
    fraction: float,
    seed: int,
) -> list[dict[str, Any]]:
    out = place / "cells" / f"{start}-{fraction:g}-{seed}"
    file = out / "cell.json"
    if file.is_file():
        found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        return found
    if (out / "run.json").is_file():  # it ended, and was cut off before its rows were written
        shutil.rmtree(out, ignore_errors=True)
    train, test = _places(ready, "train"), _places(ready, "test")
    chosen = [train[i] for i in first_of_each(ready.table.take(train), fraction, seed=seed)]
    given = {
        **_budget(recipe.finetune, steps=100),
        "report": False,
        **_images(recipe),
        **recipe.finetune,
        **home,
        "out": str(out),
        "seed": seed,
    }
    done = finetune(config.load(Finetune, given), console=Console(quiet=True), prepared=_part(ready, [*chosen, *test]))
    labels = done.test.labels
    rows = []
    answers = [name for name in done.probabilities if name != "finetuned" or done.fitted]  # tune=probe only probes
    for answer, p in ((name, done.probabilities[name]) for name in answers):
        metrics = done.metrics[answer]
        rows.append({
            "start": start, "fraction": fraction, "labels": len(chosen), "seed": seed, "answer": answer,
            **{key: metrics[key] for key in ("accuracy", "accuracy_low", "accuracy_high")},
            "hits": "".join(str(int(hit)) for hit in p.argmax(1) == labels),
        })  # fmt: skip
    write_text(file, json.dumps(rows))
    return rows


def _budget(given: Mapping[str, Any], **default: float) -> dict[str, float]:
    """The default budget, unless one is given: whichever ends first would end the run."""
    return {} if {"steps", "epochs", "minutes"} & {key for key, value in given.items() if value} else default


def _images(recipe: Study) -> dict[str, Any]:
    names = ("backbone", "weights", "size", "channels", "white", "cache")
    return {name: getattr(recipe, name) for name in names}


def _part(ready: Prepared, places: Sequence[int]) -> Prepared:
    table, pixels = ready.part(places)
    return dataclasses.replace(ready, table=table, pixels=pixels)
