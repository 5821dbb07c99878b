"""Weight averaging between the start and the end of continued pretraining (WiSE-FT's line, arXiv:2109.01903).

Half-way was measured to be as good as the end or better on every data set tried, at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from visionft.averaging import State, between
from visionft.backbone import Backbone

SHARES = (0.25, 0.5, 0.75, 1.0)
HALF = 0.5  # without labels to choose by


def settle(
    backbone: Backbone, start: State, ends: Mapping[int, State], score: Callable[[Backbone], float] | None,
    ready: Callable[[], None] = lambda: None,
) -> tuple[int, float]:  # fmt: skip
    """Leave the backbone at the best share of the way from `start` to one of the ends; returns its step and the share.

    `ends` are weights by step, those that were kept first. `score` (higher is better) sees training labels only;
    without it the share is a half. `ready` is called whenever the backbone has got other weights.
    """
    scores: dict[tuple[int, float], float] = {}
    for step, end in ends.items():
        for share in SHARES if score else ():
            backbone.net.load_state_dict(between(start, end, share))
            ready()
            scores[step, share] = score(backbone)  # type: ignore[misc]
    step, share = max(scores, key=lambda place: scores[place]) if scores else (next(iter(ends)), HALF)
    backbone.net.load_state_dict(between(start, ends[step], share))
    ready()
    return step, share
