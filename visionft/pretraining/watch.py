"""Watching a representation while it learns: its health on held-out images, its worth on a few labels, a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from visionft.backbone import Backbone
from visionft.data.views import Views, batches
from visionft.evaluation import representation
from visionft.fitted import Metrics, Stop
from visionft.objective import Objective
from visionft.precision import inference

IMAGES = 128  # held out: enough to see a collapse, few enough to cost little
JUDGED = ("effective_rank", "top_share", "retrieval")
Pair = tuple[Tensor, Tensor]
SHARE, LABELLED = 0.02, 0.1  # of the training time that watching may take, and probes of labelled images


class Watch:
    """Called by the loop at evaluations; raises Stop when the representation has collapsed.

    `held` delivers two views of images that training never sees, `worth(backbone)` adds what labels can say, and
    `history` is what was measured before a run was resumed.
    """

    def __init__(
        self, held: Views, worth: Callable[[Backbone], Metrics] | None = None, history: Sequence[Metrics] = ()
    ) -> None:
        self.held, self.worth, self.verdict = held, worth, ""
        self.history = [{name: row[f"projected_{name}"] for name in JUDGED} for row in history]
        self.dim = len(held)  # of projections, once they were seen
        self.seen = list(history)  # every evaluation, the start first

    @property
    def fallen(self) -> str:
        """What the projections have fallen to, if a verdict would call it a collapse."""
        full = min(self.dim, len(self.held))
        now, before = (representation.fallen(seen, full) for seen in (self.history, self.history[:-1]))
        return now if now and before and full >= representation.FEWEST else ""

    def __call__(self, objective: Objective) -> Metrics:
        """Effective rank, spread, alignment, uniformity; kNN and probe accuracy when there are labels."""
        features, projected = self.embed(objective)
        metrics = representation.describe(*features)
        found = representation.describe(*projected)
        self.history.append({name: found[name] for name in JUDGED})
        collapsed = self.judge(objective, projected[0].shape[1])
        metrics |= {f"projected_{name}": value for name, value in self.history[-1].items()}
        if self.worth:
            metrics |= self.worth(objective.backbone)
        self.seen.append(metrics)
        if collapsed and objective.collapses:
            raise Stop(self.verdict, metrics)
        return metrics

    def judge(self, objective: Objective, dim: int) -> bool:
        """Put what was measured so far, of projections of `dim` features, into words; whether it is a collapse."""
        self.dim = dim
        how = len(self.held), objective.remedy, objective.collapses
        self.verdict, collapsed = representation.verdict(self.history, dim, *how)
        return collapsed

    @torch.no_grad()
    def embed(self, objective: Objective) -> tuple[Pair, Pair]:
        """Features and projections of two views of every held-out image, the same views every time."""
        rows, device = [], objective.backbone.mean.device
        for batch in batches(self.held, 64):
            views = batch["views"].to(device)  # B 2 C H W
            with inference(device):
                z = objective.backbone(views.flatten(0, 1))
                both = [x.float().cpu().unflatten(0, views.shape[:2]) for x in (z, objective.project(z))]
            rows.append([half for x in both for half in x.unbind(1)])
        z1, z2, p1, p2 = (torch.cat(part) for part in zip(*rows, strict=True))
        return (z1, z2), (p1, p2)


def interval(batch: int, images_per_sample: float, held: int, labelled: int = 0) -> int:
    """Steps between evaluations that keep watching below its share of the time.

    Forward passes are counted: a training step costs three per view, watching one for each of two views, a labelled
    image one.
    """
    step = 3 * batch * images_per_sample
    return max(1, math.ceil(2 * held / (SHARE * step)), math.ceil(labelled / (LABELLED * step)))
