"""The ladder: from a probe to an ensemble, each rung dearer than the last, climbed as far as it pays.

A rung pays when its log-loss on the validation images is lower than the best before it by more than the 95 % interval
of the difference, image by image. The first that does not is the last one tried, but for the soup, which costs nothing
(`tune=auto:all` tries all); of those tried, the one with the lowest loss answers. Test images are measured on every
rung and choose nothing.
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from visionft import averaging, parallel, runs
from visionft.adapters.files import WEIGHTS
from visionft.arrays import Floats
from visionft.data.prepare import Prepared, prepare
from visionft.errors import ConfigError
from visionft.evaluation.bootstrap import Bounded, mean_of
from visionft.evaluation.classification import losses
from visionft.feed import Feed
from visionft.log import Console, Laps, Sink, clock
from visionft.norms import recalibration
from visionft.recipe import Finetune
from visionft.tasks.complete import complete
from visionft.tasks.floor import Floor, Held, measure_floor
from visionft.tasks.learn import images_for, start_of
from visionft.tasks.measure import Finetuned, asked, line, measure
from visionft.tasks.parts import Parts
from visionft.tasks.run import finetune, rehearse
from visionft.tasks.seal import recall, seal

FOLDS = 3
NETWORKS = 2 + FOLDS  # trained at most
SHARES = {"probe-then-full": 0.25, "layerwise": 0.25, "folds": 0.5}  # of the budget, where it is a time
NAMES = ("auto", "auto:all")


@dataclass
class Rung:
    """One step of the ladder, taken."""

    name: str
    done: Finetuned
    losses: Floats  # of every validation image
    gain: Bounded | None = None  # over the best before: mean, and its 95 % interval

    @property
    def loss(self) -> float:
        """Mean log-loss on the validation images."""
        return float(self.losses.mean())

    @property
    def pays(self) -> bool:
        """Whether it beats the best before it by more than the interval."""
        return self.gain is None or self.gain[1] > 0

    def row(self, chosen: bool) -> dict[str, Any]:
        """What the report and run.json say of it."""
        m = self.done.metrics["finetuned"]
        return {
            "rung": self.name, "minutes": self.done.seconds / 60, "loss": self.loss, "gain": self.gain,
            "accuracy": [m[key] for key in ("accuracy", "accuracy_low", "accuracy_high") if key in m],
            "test_loss": m.get("log_loss"),
            "chosen": chosen,
        }  # fmt: skip


def climb(
    recipe: Finetune, *, console: Console | None = None, log: Sequence[Sink] = (), prepared: Prepared | None = None
) -> Finetuned:
    """Climb, and leave the best rung in the recipe's folder as a run like any other; `rungs/` holds them all.

    `steps` or `epochs` are those of the longest training of one network, `minutes` are shared by all rungs. An adapter
    named in the recipe is what the second rung trains. Raises ConfigError for `folds`, `average` and `refit`: which of
    them helps is what the ladder finds out.
    """
    console, began = console or Console(quiet=parallel.rank() > 0), time.perf_counter()
    recipe = _complete(recipe)
    ready = prepared or prepare(recipe, console, labelled=True)
    parts, out = Parts.deal(ready, recipe), Path(recipe.out)
    runs.begin(out, recipe, ready.table.fingerprint)
    low = measure_floor(start_of(recipe), parts, recipe.size, console)
    rungs: list[Rung] = []
    for name, take in _rungs(recipe, parts, low, rungs, console, log).items():
        console.say(f"rung {len(rungs) + 1}: {name}")
        rungs.append(_judged(name, take(), rungs))
        console.say(f"  {words(rungs)}")
        if not rungs[-1].pays and name != "layerwise" and recipe.tune != "auto:all":
            break
    best = min(rungs, key=lambda rung: rung.loss)
    console.say(f"chosen: {best.name}; test: {line(best.done.metrics['finetuned'])}")
    own = dataclasses.replace(best.done.recipe, out=recipe.out, report=recipe.report)
    others = {f"rung: {r.name}": r.done.metrics["finetuned"] for r in rungs[1:] if r is not best}
    chosen = dataclasses.replace(
        best.done, recipe=own, metrics=best.done.metrics | others, phases={"all rungs": time.perf_counter() - began}
    )
    _with_adapters(best.done.out, out)
    seal(chosen, console, ladder=[rung.row(rung is best) for rung in rungs])
    return chosen


def _with_adapters(rung: Path, out: Path) -> None:
    """Keep the adapters of the chosen rung where those of any run are."""
    for folder in (file.parent for file in rung.rglob(WEIGHTS)):
        shutil.copytree(folder, out / folder.relative_to(rung), dirs_exist_ok=True)


def plan(recipe: Finetune, *, console: Console | None = None) -> list[str]:
    """Say what climbing would do and cost at most; nothing is written."""
    recipe = _complete(recipe)
    single = rehearse(dataclasses.replace(recipe, tune="layerwise", adapter="none"), console=console)
    most = f"at most {recipe.minutes:g} minutes" if recipe.minutes else f"at most {NETWORKS} times what is said here"
    return [
        f"the ladder: {', '.join(('probe', 'probe-then-full or adapter', 'layerwise', 'soup', f'{FOLDS} folds'))}",
        f"it takes {most}; a network of the rung `layerwise`:",
        "",
        *single,
    ]


def words(rungs: Sequence[Rung]) -> str:
    """What the last rung was worth, in a sentence."""
    last = rungs[-1]
    cost = f"{clock(last.done.seconds)}, log-loss {last.loss:.4f} on {len(last.losses)} validation images"
    if last.gain is None:
        return cost
    mean, low, high = last.gain
    verdict = "it pays" if last.pays else "not proven to pay" if high > 0 else "it does not pay"
    return f"{cost}; {mean:+.4f} ({low:+.4f} to {high:+.4f}) better than the best before: {verdict}"


def _complete(recipe: Finetune) -> Finetune:
    asked = {"folds": recipe.folds > 1, "average": recipe.average, "refit": recipe.refit}
    if given := [name for name, set_ in asked.items() if set_]:
        raise ConfigError(f"tune={recipe.tune} finds out by itself whether {given[0]} helps; leave {given[0]} out")
    if recipe.keep != "none" or recipe.retained is not None:
        raise ConfigError(f"tune={recipe.tune} chooses by the new task alone; to keep what was known, say how to tune, "
                          "e.g. tune=probe-then-full")  # fmt: skip
    tune = recipe.tune
    return dataclasses.replace(complete(dataclasses.replace(recipe, tune="probe-then-full")), tune=tune)


def _rungs(
    recipe: Finetune, parts: Parts, low: Floor, rungs: Sequence[Rung], console: Console, log: Sequence[Sink]
) -> dict[str, Callable[[], Finetuned]]:
    """The rungs by name, cheapest first, and what takes them."""

    def run(name: str, share: float, **changes: Any) -> Callable[[], Finetuned]:
        out = str(Path(recipe.out) / "rungs" / name)
        own = dataclasses.replace(recipe, out=out, report=False, **_budget(recipe, share), **changes)
        if (Path(out) / "run.json").is_file():
            return lambda: recall(own, parts, low.features)
        return lambda: finetune(own, console=console, log=log, prepared=parts.ready, low=low)

    plain = dataclasses.replace(recipe, adapter="none")
    second = "probe-then-full" if recipe.adapter == "none" else "adapter"
    ways: dict[str, dict[str, Any]] = {
        second: {"tune": "probe-then-full", "average": True},
        "layerwise": {"tune": "layerwise", "adapter": "none", "average": True},
    }

    def folds() -> Finetuned:
        """Several networks, each trained in the way that did best so far."""
        way = min((rung for rung in rungs if rung.name in ways), key=lambda rung: rung.loss).name
        return run("folds", SHARES["folds"], folds=FOLDS, **ways[way])()

    return {
        "probe": run("probe", 0, tune="probe", adapter="none"),
        second: run(second, SHARES["probe-then-full"], **ways[second]),
        "layerwise": run("layerwise", SHARES["layerwise"], **ways["layerwise"]),
        "soup": lambda: _soup(plain, parts, low, rungs, console),
        "folds": folds,
    }


def _budget(recipe: Finetune, share: float) -> dict[str, Any]:
    return {"minutes": recipe.minutes * share} if recipe.minutes and share else {}


def _soup(recipe: Finetune, parts: Parts, low: Floor, rungs: Sequence[Rung], console: Console) -> Finetuned:
    """The greedy mean of the networks that were trained whole, tried on the validation images."""
    laps = Laps()
    made = [r.done.learned[0] for r in rungs if r.name != "probe" and r.done.learned[0].model.backbone.adapter is None]
    learned = [dataclasses.replace(made[-1], model=copy.deepcopy(made[-1].model))]
    recipe = dataclasses.replace(recipe, tune="soup", out=str(Path(recipe.out) / "rungs" / "soup"))
    predictor = asked(recipe, parts, learned)

    model = learned[0].model
    images = images_for(recipe, model, parts.train, labels=parts.train.table.labels)

    def held() -> Tensor:
        return predictor.probabilities(parts.val.pixels)

    kept = averaging.soup(
        model,
        [found.model.state_dict() for found in made],
        lambda: -float(_losses(held(), parts.val.labels).mean()),
        recalibration(model, Feed(images, recipe, model.backbone.mean.device), recipe),
    )
    console.say(f"  a mean of {len(kept)} of {len(made)} networks")
    done = measure(recipe, parts, learned, Held.of(held(), parts), low, console)
    laps.end("soup")
    done.phases = laps.seconds
    return done


def _judged(name: str, done: Finetuned, before: Sequence[Rung]) -> Rung:
    told = done.validation["probe" if name == "probe" else "finetuned"]
    rung = Rung(name, done, _losses(told, done.val.labels))
    if before:
        rung.gain = mean_of(min(before, key=lambda r: r.loss).losses - rung.losses)
    return rung


def _losses(p: Tensor, labels: Tensor) -> Floats:
    return losses(p.double().numpy(), labels.numpy())
