"""Weights between and among networks that began alike: WiSE-FT's line (arXiv:2109.01903), soups (arXiv:2203.05482)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

State = Mapping[str, Tensor]
SHARES = (1.0, 0.75, 0.5, 0.25)


def between(start: State, end: State, share: float) -> dict[str, Tensor]:
    """Weights (and batch statistics) `share` of the way from start to end; counters are the end's."""
    return {k: start[k].lerp(end[k], share) if end[k].is_floating_point() else end[k].clone() for k in end}


def best_share(
    model: Any,
    start: State,
    score: Callable[[], float],
    shares: Sequence[float] = SHARES,
    ready: Callable[[], None] = lambda: None,
) -> float:
    """Leave the model at the best share of the way from `start` to what it is, by `score` (higher is better).

    `ready` is called whenever the model has got other weights: its batch norms may want to be measured anew.
    """
    end = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    scores = {}
    for share in shares:
        model.load_state_dict(between(start, end, share))
        ready()
        scores[share] = score()
    best = max(scores, key=scores.__getitem__)  # the first of equals
    model.load_state_dict(between(start, end, best))
    ready()
    return best


def soup(
    model: Any, states: Sequence[State], score: Callable[[], float], ready: Callable[[], None] = lambda: None
) -> list[int]:
    """Leave the model with a greedy mean of states, best first: one is stirred in where the score does not fall.

    Returns the places of those that are in. `ready` is called as in `best_share`.
    """
    scores = []
    for state in states:
        model.load_state_dict(state)
        ready()
        scores.append(score())
    order = sorted(range(len(states)), key=lambda at: -scores[at])
    kept, mean, best = order[:1], states[order[0]], scores[order[0]]
    for at in order[1:]:
        tried = between(mean, states[at], 1 / (len(kept) + 1))
        model.load_state_dict(tried)
        ready()
        if (found := score()) >= best:
            kept, mean, best = [*kept, at], tried, found
    model.load_state_dict(mean)
    ready()
    return kept
