"""One trial of a search: it trains as fine-tuning would, and validation images say what it is worth."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionft import config, runs
from visionft.atomic import write_text
from visionft.best import falls, score
from visionft.data.prepare import Prepared
from visionft.errors import DivergedError
from visionft.fitted import Metrics, Stop
from visionft.log import Console, read_metrics
from visionft.recipe import Finetune
from visionft.retention.retained import retained
from visionft.tasks.complete import complete
from visionft.tasks.learn import begin, probed, start_of
from visionft.tasks.parts import Parts
from visionft.train import fit

from .space import Choice, Range

PRUNED = "worse than the median of earlier trials at this point"


def tried(
    folder: str, base: Mapping[str, Any], over: Mapping[str, Range | Choice], trial: Any, ready: Prepared,
    console: Console,
) -> dict[str, Any]:  # fmt: skip
    """One trial, in a folder named after its keys: what was begun in it goes on, what is finished is not done again."""
    keys = {name: tried.draw(trial, name) for name, tried in over.items()}
    name = hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:10]
    out = Path(folder) / "trials" / name
    file = out / "trial.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    made = complete(config.load(Finetune, base, keys, {"out": str(out)}))
    console.say("  ".join(f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
                          for key, value in keys.items()))  # fmt: skip
    parts = dataclasses.replace(Parts.deal(ready, made), retained=retained(made, console))
    row = {"keys": keys, "trial": name, **_judged(made, parts, trial, out)}
    out.mkdir(parents=True, exist_ok=True)  # a probe leaves nothing
    write_text(file, json.dumps(row))
    shutil.rmtree(out / "resume", ignore_errors=True)
    return row


def _judged(recipe: Finetune, parts: Parts, trial: Any, out: Path) -> dict[str, Any]:
    """Train as `finetune` would and say what the validation images say; test images are not looked at."""
    start = start_of(recipe)
    model, learner, images, evaluate = begin(recipe, parts, start, probed(recipe, parts, start))
    if recipe.tune == "probe":
        metrics = evaluate(model.eval())
        score(recipe.metric, metrics)
        return {"state": "complete", "value": metrics[recipe.metric], "step": 0, "seconds": 0.0}
    sink = runs.sinks(out, recipe)
    judge = _Judge(evaluate, trial, recipe.metric, read_metrics(out / "metrics.jsonl"))
    try:
        fitted = fit(learner, images, recipe, out=out, evaluate=judge, log=sink)
    except DivergedError:
        return {"state": "pruned", "value": judge.worst, "step": 0, "seconds": 0.0}
    ended = "pruned" if fitted.stopped == PRUNED else "complete"
    return {"state": ended, "value": fitted.metrics[recipe.metric], "step": fitted.best_step, "seconds": fitted.seconds}


class _Judge:
    """Validation, as the loop calls it, which ends a trial that does worse than the median of those before it."""

    def __init__(self, evaluate: Any, trial: Any, metric: str, rows: list[dict[str, Any]]) -> None:
        self.evaluate, self.trial, self.metric, self.count = evaluate, trial, metric, 0
        self.worst = float("inf") if falls(metric) else float("-inf")
        for row in rows:  # of a trial that was interrupted
            if metric in row:
                self._tell(row)

    def __call__(self, model: Any) -> Metrics:
        metrics: Metrics = self.evaluate(model)
        score(self.metric, metrics)
        self._tell(metrics)
        if self.trial.should_prune():
            raise Stop(PRUNED, metrics)
        return metrics

    def _tell(self, metrics: Mapping[str, float]) -> None:
        self.trial.report(metrics[self.metric], self.count)
        self.count += 1
