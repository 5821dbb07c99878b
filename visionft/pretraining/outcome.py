"""What a run leaves behind: which weights, how good they are beside what was there before, and how that looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from visionft.backbone import Backbone
from visionft.evaluation.probe import fit_probe
from visionft.evaluation.worth import Labelled, Worth, verdict
from visionft.fitted import Fitted, Metrics
from visionft.objective import Objective
from visionft.recipe import Pretrain

from . import average
from .baselines import IMAGENET
from .choose import Kept, choose
from .watch import Watch

PRETRAINED, AVERAGED = "pretrained", "averaged"


@dataclass
class Outcome:
    """The weights that were kept, by step and share of the way from the start, and what labels say of them."""

    kept: Kept
    end: dict[str, Tensor]  # the backbone's weights before averaging
    share: float | None = None
    lines: list[str] = field(default_factory=list)  # what was chosen and why
    rows: dict[str, Worth] = field(default_factory=dict)
    words: str = ""  # whether it was worth it

    def worth(self) -> Metrics:
        """What the labels say of the weights as they were left; nothing without labels."""
        return next(reversed(self.rows.values())).metrics() if self.rows else {}


def settle(
    model: Objective, fitted: Fitted, recipe: Pretrain, watch: Watch, before: Mapping[str, Tensor],
    labelled: Labelled | None, choosing: Labelled | None, bases: Mapping[str, Worth],
    look: Callable[[Objective], None], ready: Callable[[], None],
) -> Outcome:  # fmt: skip
    """Leave the model with the weights to keep: a step's, then their mean with the start's if that was trained.

    `look` is shown the objective while backbone and heads still belong together; `ready` is called whenever weights
    were averaged.
    """
    kept, backbone = choose(model, fitted, recipe, watch, labelled is not None), model.backbone
    look(model)
    done = Outcome(kept, _copy(backbone), lines=[kept.why])
    if labelled:
        done.rows = dict(bases) | {PRETRAINED: labelled.worth(backbone, recipe.size)}
    if recipe.average and backbone.loaded.loaded:
        ends: dict[int, Mapping[str, Tensor]] = {kept.step: done.end}
        if labelled and fitted.last and kept.step != fitted.steps:
            own = "backbone.net."
            ends[fitted.steps] = {k.removeprefix(own): v for k, v in fitted.last.items() if k.startswith(own)}
        score = _score(choosing, recipe.size) if choosing else None
        step, done.share = average.settle(backbone, before, ends, score, ready)
        alone = (step, done.share) == (kept.step, 1.0)
        how = "chosen by the probe" if labelled else "without labels to choose by"
        way = f"averaged: {done.share:.0%} of the way from the start to step {step}, {how}"
        done.lines.append("not averaged with the start: the probe is best without" if alone else way)
        if labelled and not alone:
            done.rows[AVERAGED] = labelled.worth(backbone, recipe.size)
    if bases:
        last = next(reversed(done.rows))
        done.words = verdict(last, done.rows[last], bases)
        if labelled is choosing:
            done.words += " The same labels chose the weights, which flatters them: there are too few to halve."
        if IMAGENET not in bases:
            done.words += f" ImageNet weights of {backbone.name}, the usual rival, are not on this machine."
    return done


def _copy(backbone: Backbone) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.net.state_dict().items()}


def _score(labelled: Labelled, size: int) -> Callable[[Backbone], float]:
    def score(backbone: Backbone) -> float:
        z = labelled.features(backbone, size, store=False)
        return -min(fit_probe(z, labelled.labels, classes=len(labelled.table.classes)).cv.values())

    return score
