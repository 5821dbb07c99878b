"""The verbs of the command line: what each takes, what runs it, and what it prints."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import recipe, verbs
from .inspection import verbs as inspection

Says = Callable[[Any, Any], Iterable[str]]  # what a verb returned, and its recipe: lines to print


def _place(result: Any, made: Any) -> list[str]:
    return [str(result if isinstance(result, Path) else result.out)]


def _each(result: Any, made: Any) -> list[str]:
    return [str(one) for one in result]


def _lines(result: Any, made: Any) -> list[str]:
    return list(result.lines())


def _nothing(result: Any, made: Any) -> list[str]:
    return []  # it has said everything while it ran


def _json(result: Any, made: Any) -> list[str]:
    return [json.dumps(result, indent=2)]


def _rate(result: Any, made: Any) -> list[str]:
    return [result.words, *([f"drawn in {made.figure}"] if made.figure else [])]


def _out(result: Any, made: Any) -> list[str]:
    return [made.out]


def _shape(result: Any, made: Any) -> list[str]:
    images, width = result[1].shape
    return [f"{images} images, {width} features" + (f" in {made.out}" if made.out else "")]


def _catalogue(result: Any, made: Any) -> list[str]:
    from .catalogue import lines

    return lines(result, made.backbone, made.size, whole=bool(made.name))


@dataclass(frozen=True)
class Command:
    """One verb. `run` is module:function, imported when it is called: (recipe, quiet=, and dry_run= where it plans)."""

    keys: type  # its recipe
    example: str
    run: str
    says: Says = _place
    plans: bool = False  # whether it knows --dry-run, and then returns lines
    more: str = ""  # module:function of further lines of its --help
    then: str = ""  # the command that comes next; {} is the run folder

    def __call__(self, made: Any, *, quiet: bool, dry: bool) -> Iterable[str]:
        """Run a recipe; returns lines to print."""
        function = _imported(self.run)
        return function(made, quiet=quiet, dry_run=True) if dry else self.says(function(made, quiet=quiet), made)

    def after(self, made: Any) -> list[str]:
        """Where to look now, and what comes next."""
        if not self.then:
            return []
        report = Path(made.out) / "report.html"
        look = [f"report: {report}"] if report.is_file() else []
        return [*look, f"next: {self.then.format(made.out)}"]

    def help(self) -> list[str]:
        """What --help says besides the keys."""
        return _imported(self.more)() if self.more else []


def _imported(path: str) -> Any:
    module, name = path.split(":")
    return getattr(importlib.import_module(f"visionft.{module}"), name)


COMMANDS: dict[str, Command] = {
    "quickstart": Command(
        verbs.Quickstart, "visionft quickstart", "journeys.quickstart:quickstart", _nothing
    ),
    "pretrain": Command(
        recipe.Pretrain, "visionft pretrain data=photos/ backbone=resnet18 objective=simclr minutes=30",
        "api:pretrain", plans=True, more="catalogue:objectives_help",
        then="visionft finetune data=LABELLED backbone={}",
    ),
    "finetune": Command(
        recipe.Finetune, "visionft finetune data=labelled/ backbone=runs/pretrain",
        "api:finetune", plans=True, more="catalogue:tasks_help", then="visionft predict {} IMAGE...",
    ),
    "lr-find": Command(
        verbs.LrFind, "visionft lr-find data=labelled/ backbone=runs/pretrain",
        "api:lr_find", _rate, more="catalogue:tasks_help",
    ),
    "evaluate": Command(verbs.Evaluate, "visionft evaluate runs/finetune data=labelled/", "api:evaluate", _json),
    "predict": Command(verbs.Predict, "visionft predict runs/finetune IMAGE...", "api:predict", _each),
    "rebalance": Command(verbs.Rebalance, "visionft rebalance runs/finetune out=runs/fair", "api:rebalance", _out),
    "embed": Command(
        verbs.Embed, "visionft embed data=photos/ backbone=runs/pretrain out=features.npz", "api:embed", _shape
    ),
    "study": Command(verbs.Study, "visionft study data=labelled/ unlabeled=photos/", "api:study"),
    "rank": Command(
        verbs.Rank, "visionft rank data=labelled/ backbones=resnet18,convnext_atto,runs/pretrain", "api:rank", _lines
    ),
    "advise": Command(
        verbs.Advise, "visionft advise data=labelled/ unlabeled=photos/ out=advice.html", "api:advise", _lines
    ),
    "search": Command(
        verbs.Search, "visionft search data=labelled/ over.optim.lr=1e-5..1e-3 over.tune=full|layerwise",
        "api:search", _lines,
    ),
    "objectives": Command(
        verbs.Objectives, "visionft objectives [NAME] backbone=resnet18 size=128", "api:objectives", _catalogue
    ),
    "augment": Command(verbs.Augment, "visionft augment policy=ssl data=photos/ out=sheet.png", "api:augment"),
    "inspect fit": Command(
        inspection.InspectFit, "visionft inspect fit data=good/ false_reject=0.01 out=runs/inspect",
        "inspection.run:fit", _each, plans=True, more="inspection.eyes:lines",
    ),
    "inspect predict": Command(
        inspection.InspectPredict, "visionft inspect predict runs/inspect PHOTO... out=verdicts",
        "inspection.run:predict", _each,
    ),
    "inspect add-defects": Command(
        inspection.AddDefects, "visionft inspect add-defects runs/inspect data=bad/",
        "inspection.run:add_defects", _each,
    ),
    "inspect evaluate": Command(
        inspection.InspectEvaluate, "visionft inspect evaluate runs/inspect data=test/",
        "inspection.run:evaluate", _each,
    ),
    "inspect watch": Command(
        inspection.InspectWatch, "visionft inspect watch runs/inspect source=0 out=line/",
        "inspection.run:watch", _each,
    ),
    "inspect export": Command(
        inspection.InspectExport, "visionft inspect export runs/inspect data=photos/ out=part.onnx",
        "inspection.run:export", _each,
    ),
}  # fmt: skip
PLANNED = tuple(name for name, command in COMMANDS.items() if command.plans)
