"""Weight averaging between the start and the end of continued pretraining (WiSE-FT's line, arXiv:2109.01903).

A short continuation from ImageNet weights was measured to hurt, and the mean of both ends to help, at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from visionft.backbone import Backbone

SHARES = (0.25, 0.5, 0.75, 1.0)
HALF = 0.5  # without labels to choose by: the best or second best share in every try so far

State = Mapping[str, Tensor]


def between(start: State, end: State, share: float) -> dict[str, Tensor]:
    """Weights (and batch statistics) `share` of the way from start to end; counters are the end's."""
    return {k: start[k].lerp(end[k], share) if end[k].is_floating_point() else end[k].clone() for k in end}


def settle(
    backbone: Backbone, start: State, score: Callable[[Backbone], float] | None
) -> tuple[float, dict[float, float]]:
    """Leave the backbone at the best share of the way from `start`; returns the share and every share's score.

    `score` (higher is better) sees training labels only; without it the share is a half.
    """
    end = {k: v.clone() for k, v in backbone.net.state_dict().items()}
    scores: dict[float, float] = {}
    for share in SHARES if score else ():
        backbone.net.load_state_dict(between(start, end, share))
        scores[share] = score(backbone)  # type: ignore[misc]
    chosen = max(scores, key=lambda s: scores[s]) if scores else HALF
    backbone.net.load_state_dict(between(start, end, chosen))
    return chosen, scores
