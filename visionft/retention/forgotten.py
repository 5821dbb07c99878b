"""What a fine-tuning run has forgotten: retained images before and after, and all along the way (WiSE-FT's line)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionft import parallel
from visionft.arrays import Floats
from visionft.averaging import between
from visionft.evaluation.bootstrap import mean_of, named
from visionft.evaluation.forgetting import Known, cka, compare, drift, front, headline, stages
from visionft.evaluation.worth import Labelled, cross_validated
from visionft.weights import OldHead

from .retained import Retained, answers_of

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)

Row = dict[str, float]


@dataclass(frozen=True)
class Judge:
    """The retained images that no remedy has seen, and the classifier that came with the weights."""

    images: Labelled
    size: int
    head: OldHead | None

    def look(self, backbone: Any) -> Known:
        """What a backbone makes of them; features are not stored, because weights only pass by."""
        z = self.images.features(backbone, self.size, store=False)
        said = None if self.head is None else self.head(z).argmax(1).numpy()
        truth, labels = self.truth(), self._labels()
        return Known(
            z, said, None if said is None or truth is None else said == truth,
            None if labels is None else cross_validated(z, labels, len(self.images.table.classes)),
        )  # fmt: skip

    def truth(self) -> np.ndarray | None:
        """N: what the old classifier should say, where its classes are those of the labels."""
        table = self.images.table
        if self.head is None or not table.labelled:
            return None
        place = answers_of(table.classes, self.head.classes, len(self.head.bias))
        return None if place is None else place[table.labels]

    def _labels(self) -> Tensor | None:
        """N, if two classes or more have two images, so that one of them can be held out."""
        enough = self.images.table.labelled and (np.bincount(self.images.table.labels) > 1).sum() > 1
        return self.images.labels if enough else None


@dataclass(frozen=True)
class Before:
    """What there is to compare with: weights with a probe's head, and what they make of the retained images."""

    judge: Judge
    source: str
    memory: int
    state: Mapping[str, Tensor]
    known: Known
    stages: Mapping[str, Floats]


@dataclass(frozen=True)
class Forgetting:
    """Numbers of the start and of what is saved, CKA and drift by stage, and the way between start and end."""

    source: str
    memory: int  # images that remedies may use
    judged: int
    start: Row
    saved: Row
    stages: list[dict[str, Any]]
    sweep: list[Row]  # share of the way, the target's mean on validation images, retained metrics, front (1 or 0)
    target: str = "accuracy"  # what that mean is of

    def facts(self) -> dict[str, Any]:
        """Everything, as plain JSON values."""
        return dataclasses.asdict(self)

    def line(self) -> str:
        """The one number that says most, before and after, in words."""
        name = headline(self.saved)
        words = f"  retained: {name.replace('_', ' ')} {self.start[name]:.3f} before, {self.saved[name]:.3f} after"
        if f"{name}_change" in self.saved:
            change = [self.saved[f"{name}_change{end}"] for end in ("", "_low", "_high")]
            words += " ({:+.3f}, {:+.3f} to {:+.3f})".format(*change)
        return f"{words}; features drifted by {self.saved['drift']:.2f} of their length"


def before(model: Any, retained: Retained | None, size: int, weight: Tensor, bias: Tensor) -> Before | None:
    """Look at retained images before anything is trained, on process 0; the way begins with a probe's head."""
    if retained is None or parallel.rank():
        return None
    twin = copy.deepcopy(model)
    twin.start_from(weight, bias)
    judge = Judge(retained.judged, size, model.backbone.loaded.head)
    seen = stages(twin.backbone, retained.judged.pixels, size)
    return Before(
        judge, retained.source, len(retained.memory.table), _copied(twin), judge.look(twin.backbone), seen
    )  # fmt: skip


def after(before: Before, model: Any, good: Callable[[], Floats], target: str = "accuracy") -> Forgetting:
    """Look again, and at shares of the way from the start to what is saved, which takes plain weights.

    `good` says how well the model answers each validation image, N, the more the better; the mean is called `target`.
    The model is left as it was.
    """
    own, judge = _copied(model), before.judge
    saved, seen = judge.look(model.backbone), stages(model.backbone, judge.images.pixels, judge.size)
    try:
        shares = SHARES if model.backbone.adapter is None else SHARES[-1:]
        sweep = [_row(before, model, own, share, good) for share in shares]
    finally:
        model.load_state_dict(own)
    by_stage = [{"stage": n, "cka": cka(z, seen[n]), "drift": drift(z, seen[n])} for n, z in before.stages.items()]
    best = front([(row["target"], row[headline(row)]) for row in sweep])
    return Forgetting(
        before.source, before.memory, len(judge.images.table), compare(before.known, before.known),
        compare(before.known, saved),
        by_stage,
        [row | {"front": float(ahead)} for row, ahead in zip(sweep, best, strict=True)], target,
    )  # fmt: skip


@torch.no_grad()
def _row(before: Before, model: Any, end: Mapping[str, Tensor], share: float, good: Callable[[], Floats]) -> Row:
    """One share of the way: the new task on validation images, and what is retained."""
    start = {name: tensor.to(end[name].device) for name, tensor in before.state.items()} if share < 1 else end
    model.load_state_dict(between(start, end, share))
    kept = compare(before.known, before.judge.look(model.backbone))
    return {"share": share} | named("target", mean_of(good())) | kept


def _copied(model: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
