"""Which weights of a run are kept: those of the best probe, or of the last step unless the representation fell."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass

from visionft.fitted import Fitted
from visionft.objective import Objective
from visionft.recipe import Pretrain

from .watch import Watch

UNSET = Pretrain().metric  # evaluations have no loss: left alone, the key asks for nothing
PROBE, RANK = "probe_log_loss", "effective_rank"
WORDS = {PROBE: "log-loss of the probe"}


@dataclass(frozen=True)
class Kept:
    """The step whose weights are kept, and why."""

    step: int
    why: str


def remembering(recipe: Pretrain, labels: bool) -> Pretrain:
    """The recipe as the loop gets it: it remembers the best evaluation, and stops early only if it was told to."""
    return dataclasses.replace(recipe, metric=_metric(recipe, labels), patience=recipe.patience or sys.maxsize)


def choose(model: Objective, fitted: Fitted, recipe: Pretrain, watch: Watch, labels: bool) -> Kept:
    """Leave `model`, which has the weights of the best evaluation, with those that are to be kept.

    Without labels that is the end, whose rank may well be lower than at the start, unless it has fallen to a point or
    a line. With labels it is the best probe after the start: the start is what the user had already.
    """
    best, end, metric = fitted.best_step, fitted.steps, _metric(recipe, labels)
    value, words = fitted.metrics.get(metric, float("nan")), WORDS.get(metric, metric.replace("_", " "))
    kept = f"the weights of step {best} of {end} are kept"
    if best == end or recipe.metric != UNSET:  # there is nothing to choose, or the user has chosen
        return Kept(best, f"{kept}: they have the best {words} of all evaluations, {value:.4g}")
    if watch.fallen and model.collapses:
        return Kept(best, f"{kept}, of effective rank {fitted.metrics[RANK]:.1f}: the end has fallen to {watch.fallen}")
    if labels and best:
        return Kept(
            best, f"{kept}: they have the best {words}, {value:.4g}; at the end it was {watch.seen[-1][metric]:.4g}"
        )
    if fitted.last is not None:
        model.load_state_dict(fitted.last)
    kept = f"the weights of the last step, {end}, are kept"
    if labels:
        return Kept(end, f"{kept}, although no evaluation had a better {words} than the start, {value:.4g}")
    return Kept(end, f"{kept}: there are no labels to choose by, and the effective rank has not collapsed")


def _metric(recipe: Pretrain, labels: bool) -> str:
    return (PROBE if labels else RANK) if recipe.metric == UNSET else recipe.metric
