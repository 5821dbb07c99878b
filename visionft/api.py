"""The verbs: pretrain, finetune, evaluate, predict, embed, augment, in the words of the command line; assembly only."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from . import backbones, config, recipe, runs, verbs
from .atomic import replace, write_csv
from .data.prepare import prepare
from .data.scan import scan
from .data.sheet import sheet, write_png
from .data.sources import read
from .errors import ConfigError
from .features import features
from .log import Console, Sink
from .multihead.answers import Answers
from .multihead.predictor import HEADS, HeadsPredictor
from .tasks.predictor import Prediction, Predictor

if TYPE_CHECKING:
    from .catalogue import Entry
    from .evaluation.rebalance import Rebalanced

R = TypeVar("R")


def verb(of: type) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a function the keys of its recipe as keywords, in `help()` too."""

    def wrap(function: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(function)
        def call(first: Any = None, /, *sources: Any, **words: Any) -> R:
            extras = {k: words.pop(k) for k in own if k in words}
            named = {} if first is None else {lead: first}
            made = first if isinstance(first, of) else config.load(of, *sources, {**named, **words})
            return function(made, **extras)

        own = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        lead = next(key for key in ("run", "name", "data") if key in inspect.signature(of).parameters)
        keywords = [p.replace(kind=p.KEYWORD_ONLY) for p in inspect.signature(of).parameters.values()]
        shown = [inspect.Parameter(lead, inspect.Parameter.POSITIONAL_ONLY, default=None)]
        keys = [p for p in keywords if p.name != lead]
        extra = [p for p in inspect.signature(function).parameters.values() if p.name in own]
        call.__signature__ = inspect.Signature([*shown, *keys, *extra])  # type: ignore[attr-defined]
        call.recipe = of  # type: ignore[attr-defined]
        return call

    return wrap


@verb(recipe.Pretrain)
def pretrain(recipe: recipe.Pretrain, *, log: Sequence[Sink] = (), quiet: bool = False, dry_run: bool = False) -> Any:
    """Learn a backbone from a folder of unlabeled images; returns the finished run."""
    from .pretraining.run import pretrain as run
    from .pretraining.run import rehearse

    console = _console(quiet)
    return rehearse(recipe, console=console) if dry_run else run(recipe, console=console, log=log)


@verb(recipe.Finetune)
def finetune(recipe: recipe.Finetune, *, log: Sequence[Sink] = (), quiet: bool = False, dry_run: bool = False) -> Any:
    """Teach a backbone to classify labelled images, or columns of a table (`target`); returns the finished run."""
    from .journeys import ladder
    from .multihead import run as columns
    from .tasks import run as labels

    run: Any
    if recipe.target is not None:
        run, rehearse = columns.finetune, columns.rehearse
    elif recipe.tune in ladder.NAMES:
        run, rehearse = ladder.climb, ladder.plan
    else:
        run, rehearse = labels.finetune, labels.rehearse
    console = _console(quiet)
    return rehearse(recipe, console=console) if dry_run else run(recipe, console=console, log=log)


@verb(verbs.LrFind)
def lr_find(recipe: verbs.LrFind, *, quiet: bool = False) -> Any:
    """Suggest a learning rate for a fine-tuning recipe; returns rates, losses and the suggestion."""
    from .journeys.lr_find import lr_find as run

    return run(recipe, console=_console(quiet))


@verb(verbs.Evaluate)
def evaluate(recipe: verbs.Evaluate, *, quiet: bool = False) -> dict[str, float]:
    """Measure a fine-tuned run on labelled images: plain numbers with 95 % bootstrap intervals."""
    model, console = load(recipe.run), _console(quiet)
    channels, white = (model.images[key] for key in ("channels", "white"))
    source = read(_needed(recipe.data, "data"), labelled=model.labelled, classes=1)
    table = scan(source, bad=recipe.bad, channels=channels, white=white).table
    console.say(f"{len(table)} images of {table.source}")
    return model.evaluate(table, batch=recipe.batch, progress=console.progress("images"))


@verb(verbs.Predict)
def predict(recipe: verbs.Predict, *, quiet: bool = False) -> list[Prediction] | list[Answers]:
    """Classify images with a fine-tuned run; with `out`, also write a CSV."""
    model, images, console = load(recipe.run), _needed(recipe.images, "images"), _console(quiet)
    found = model.predict(images, batch=recipe.batch, progress=console.progress("images"))
    if recipe.out:
        write_csv(Path(recipe.out), [one.cells() for one in found])
    return found


@verb(verbs.Embed)
def embed(recipe: verbs.Embed, *, quiet: bool = False) -> tuple[list[str], np.ndarray]:
    """Feature vectors of images: their names, and N D float32; with `out`, also written as .npz."""
    console = _console(quiet)
    ready = prepare(recipe, console, labelled=False)
    backbone = backbones.load(recipe.backbone, recipe.weights, channels=recipe.channels, size=recipe.size)
    digests = [r.digest for r in ready.table]
    z = features(backbone, ready.pixels, digests, size=recipe.size, progress=console.progress("features"))
    names, array = [r.name for r in ready.table], z.numpy()
    if recipe.out:
        replace(Path(recipe.out), lambda beside: _write_npz(beside, names, array))
    return names, array


@verb(verbs.Augment)
def augment(recipe: verbs.Augment, *, quiet: bool = False) -> Path:
    """Draw what a policy does to the first images of a source; returns the picture's path."""
    import dataclasses

    few = read(_needed(recipe.data, "data"), labelled=False)
    some = dataclasses.replace(recipe, data=few.take(range(min(recipe.rows, len(few)))))
    pixels = prepare(some, _console(quiet), labelled=False, dry=True).pixels
    made = sheet(
        pixels, recipe.policy, size=recipe.size, count=recipe.count, channels=recipe.channels, seed=recipe.seed
    )
    write_png(Path(recipe.out), made)
    return Path(recipe.out)


@verb(verbs.Rebalance)
def rebalance(recipe: verbs.Rebalance, *, quiet: bool = False) -> Rebalanced:
    """Refit the last layer of a run so that every group counts alike; `out` becomes an ordinary run folder.

    On the run's validation images, or on `data`: a labelled source with groups that the run has not learnt from.
    """
    from .tasks.rebalance import rebalance as refit

    return refit(_needed(recipe.run or None, "run"), out=recipe.out, data=recipe.data, console=_console(quiet))


def load(run: str | Path) -> Predictor | HeadsPredictor:
    """A finished fine-tuning run, ready to `predict(images)`."""
    if not run:
        raise ConfigError("run is missing: name a run folder, e.g. runs/quickstart")
    several = runs.info(Path(run)).get("task", {}).get("name") == HEADS
    return HeadsPredictor.load(run) if several else Predictor.load(run)


def _console(quiet: bool) -> Console:
    from . import parallel

    parallel.start()
    return Console(quiet=quiet or parallel.rank() > 0)


@verb(verbs.Study)
def study(recipe: verbs.Study, *, quiet: bool = False) -> Any:
    """Measure how many labels pretraining is worth on this data; returns rows, curves and a verdict in words."""
    from .journeys.study import study as run

    return run(recipe, console=_console(quiet))


@verb(verbs.Search)
def search(recipe: verbs.Search, *, quiet: bool = False) -> Any:
    """Search for a good fine-tuning recipe by validation images (extra `search`); returns trials and the best one."""
    from .journeys.search import search as run

    return run(recipe, console=_console(quiet))


@verb(verbs.Rank)
def rank(recipe: verbs.Rank, *, quiet: bool = False) -> Any:
    """Compare backbones on labelled images by what frozen features are worth; returns rows, best first, and words."""
    from .journeys.rank import rank as run

    return run(recipe, console=_console(quiet))


@verb(verbs.Advise)
def advise(recipe: verbs.Advise, *, quiet: bool = False) -> Any:
    """Which recipe to run on these labels, why and at what cost; returns findings, commands, facts and a page."""
    from .journeys.advise import advise as run

    return run(recipe, console=_console(quiet))


@verb(verbs.Objectives)
def objectives(recipe: verbs.Objectives, *, quiet: bool = False) -> list[Entry]:
    """What a backbone can be pretrained for: one entry an objective, plug-ins too, with its cost in memory."""
    from .catalogue import entry
    from .objective import registered

    names = [recipe.name] if recipe.name else [*registered()]
    network = backbones.load(recipe.backbone, "none", size=recipe.size)
    found: list[Entry] = []
    progress = _console(quiet).progress("objectives")
    for name in names:
        found.append(entry(name, network, recipe.size))
        progress(len(found), len(names))
    return found


def _needed(value: Any, name: str) -> Any:
    if value is None:
        raise ConfigError(f"{name} is missing: say {name}=...")
    return value


def _write_npz(path: Path, names: Sequence[str], array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.savez(file, names=np.array(names), features=array)
