"""The verbs of inspection, from words to files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visionft.atomic import write_csv, write_text
from visionft.data.sheet import write_png
from visionft.errors import ConfigError
from visionft.log import Console

from .evaluated import advice
from .inspector import Inspector
from .learn import rehearse
from .onnx import OnnxInspector
from .verbs import AddDefects, InspectEvaluate, InspectExport, InspectFit, InspectPredict, InspectWatch
from .verdict import Verdict
from .where import shown


def fit(recipe: InspectFit, *, quiet: bool = False, dry_run: bool = False) -> list[str]:
    """Learn from good parts, or say what that would cost; returns lines to print."""
    if dry_run:
        return rehearse(recipe, console=Console(quiet=quiet))
    found = Inspector.fit(recipe, quiet=quiet)
    return [recipe.out or found.promise.words()]


def predict(recipe: InspectPredict, *, quiet: bool = False) -> list[str]:
    """Judge photos, and write what was found where `out` says; returns a line for each photo."""
    if not recipe.run or recipe.images is None:
        raise ConfigError("say which inspector and which photos: visionft inspect predict runs/inspect PHOTO...")
    found = _judging(recipe.run).predict(recipe.images, quiet=quiet)
    verdicts = found if isinstance(found, list) else [found]
    if recipe.out:
        write(verdicts, Path(recipe.out))
    return [str(verdict) for verdict in verdicts]


def evaluate(recipe: InspectEvaluate, *, quiet: bool = False) -> list[str]:
    """Measure an inspector where the truth is known; returns what came out in words, and where the report is."""
    if not recipe.run or recipe.data is None:
        raise ConfigError("say which inspector and which photos: visionft inspect evaluate runs/inspect data=test/")
    out = recipe.out or str(Path(recipe.run) / "evaluation.html")
    inspector = Inspector.load(recipe.run)
    worth = inspector.evaluate(dataclasses.replace(recipe, out=out), quiet=quiet)
    write_text(Path(out).with_suffix(".json"), json.dumps(worth.facts(), indent=2))
    said = [worth.words(inspector.promise), advice(worth, inspector.defects)]
    return [*filter(None, said), out]


def add_defects(recipe: AddDefects, *, quiet: bool = False) -> list[str]:
    """Let defects choose; returns the folder of the new inspector."""
    if not recipe.run or recipe.data is None:
        raise ConfigError("say which inspector and which defects: visionft inspect add-defects runs/inspect data=bad/")
    recipe = dataclasses.replace(recipe, out=recipe.out or f"{recipe.run.rstrip('/')}-defects")
    Inspector.load(recipe.run).add_defects(recipe, quiet=quiet)
    return [str(recipe.out)]


def watch(recipe: InspectWatch, *, quiet: bool = False) -> list[str]:
    """Judge what comes until it is told to stop; returns the tally."""
    if not recipe.run or recipe.source is None:
        raise ConfigError("say which inspector and what it watches: visionft inspect watch runs/inspect source=0")
    from .line.watch import watch

    return [str(watch(_judging(recipe.run), recipe, console=Console(quiet=quiet)))]


def export(recipe: InspectExport, *, quiet: bool = False) -> list[str]:
    """Write an ONNX file; returns what was compared, and milliseconds."""
    if not recipe.run:
        raise ConfigError("say which inspector and which photos: visionft inspect export runs/inspect data=photos/")
    from .export import export

    return export(Inspector.load(recipe.run), recipe, console=Console(quiet=quiet)).lines()


def _judging(run: str) -> Inspector | OnnxInspector:
    """The inspector of a run folder, or an exported one."""
    return OnnxInspector(run) if run.endswith(".onnx") else Inspector.load(run)


def write(verdicts: Sequence[Verdict], folder: Path) -> None:
    """verdicts.csv, and of every photo that does not pass its overlay and its mask, numbered as in the table."""
    for part in ("overlays", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for at, verdict in enumerate(verdicts):
        if not verdict.passes:
            name = f"{at:05}-{Path(verdict.image).stem}.png"
            write_png(folder / "overlays" / name, verdict.overlay)
            write_png(folder / "masks" / name, shown(verdict.mask[..., None].astype(np.uint8) * 255))
    write_csv(folder / "verdicts.csv", [verdict.cells() for verdict in verdicts])
