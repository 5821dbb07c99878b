"""How good are the heads? Every head's own numbers with 95 % intervals, and the loss that training goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from visionft.arrays import Floats
from visionft.data.targets import Classes, Flags, Levels, Number, Target, parts
from visionft.evaluation.bootstrap import Bounded, mean_of
from visionft.evaluation.classification import summarise
from visionft.evaluation.decision import Decision
from visionft.evaluation.flags import of_flags
from visionft.evaluation.levels import of_levels
from visionft.evaluation.numbers import held, of_numbers
from visionft.tasks.heads import elements

from .rules import Band, Cuts, Rule, median

Metrics = dict[str, float]
SMALL = ("mae", "rmse", "ece")  # better when lower, though their names do not say so
HEADLINES = {"classes": "accuracy", "flags": "average_precision", "number": "r2", "levels": "kappa"}
COMPARED = {"classes": "accuracy", "flags": "auroc", "number": "mae", "levels": "mae"}
EPS = float(np.finfo(np.float32).eps)


def judge(
    targets: Sequence[Target], said: Floats, values: Floats, rules: Mapping[str, Rule], *,
    groups: Sequence[str] | None = None, resamples: int = 1000,
) -> Metrics:  # fmt: skip
    """COLUMN/METRIC of answers (N A, numbers in their unit) against the truth (N V), images without it left out.

    Also COLUMN/loss, as it is trained for, and `log_loss`, their mean; with several columns of flags
    mean_average_precision over all of them. With groups (N), COLUMN/METRIC/GROUP of the number that columns are
    `compared` by. What the images leave undefined is left out, it is never nan.
    """
    found = losses(targets, said, values)
    for target, out, own in zip(targets, parts(targets, "answers"), parts(targets), strict=True):
        known = np.isfinite(values[:, own]).any(axis=1)
        if known.any():
            own_metrics = _judge(target, said[known, out], values[known, own], rules[target.column], resamples)
            found |= {f"{target.column}/{name}": value for name, value in own_metrics.items()}
    found |= _over_columns(targets, said, values, resamples)
    return found if groups is None else found | _by_group(targets, said, values, rules, np.asarray(groups), resamples)


def headline(target: Target) -> str:
    """The key of the one number that sums a head up."""
    return _key(target, HEADLINES, "mean_average_precision")


def compared(target: Target) -> str:
    """The key of the one number that groups of images are compared by: it asks nothing of how the truth is spread."""
    return _key(target, COMPARED, "mean_f1")


def _key(target: Target, names: Mapping[str, str], over_flags: str) -> str:
    if isinstance(target, Flags) and target.listed:
        return f"{target.column}/{over_flags if target.width > 1 else f'{target.names[0]}/{names[target.kind]}'}"
    return f"{target.column}/{names[target.kind]}"


def watched(targets: Sequence[Target], said: Floats, values: Floats, rules: Mapping[str, Rule]) -> Metrics:
    """What early stopping may watch: no intervals, and nothing that is better when lower without saying so."""
    found = judge(targets, said, values, rules, resamples=1)
    return {k: v for k, v in found.items() if not k.endswith(("_low", "_high")) and k.rpartition("/")[2] not in SMALL}


def losses(targets: Sequence[Target], said: Floats, values: Floats) -> Metrics:
    """`log_loss`, the mean over columns of COLUMN/loss, each the mean over what is known."""
    costs = zip(targets, _costs(targets, said, values), strict=True)
    found = {f"{target.column}/loss": float(np.nanmean(cost)) for target, cost in costs if np.isfinite(cost).any()}
    return {"log_loss": float(np.mean([*found.values()])), **found} if found else {}


def change(targets: Sequence[Target], now: Floats, then: Floats, values: Floats) -> Bounded:
    """By how much the loss of an image differs between two answers (N A each), and the 95 % interval over images.

    nan where nothing is known of any of them.
    """
    more = cost(targets, now, values) - cost(targets, then, values)
    return mean_of(more) if len(more) else (float("nan"),) * 3


def cost(targets: Sequence[Target], said: Floats, values: Floats) -> Floats:
    """The mean loss of each image over what is known of it; images of which nothing is known are left out."""
    each = np.concatenate(_costs(targets, said, values), axis=1)
    found: Floats = np.nanmean(each[np.isfinite(each).any(axis=1)], axis=1)
    return found


def _costs(targets: Sequence[Target], said: Floats, values: Floats) -> list[Floats]:
    """The loss of every image in every column, N V each; nan where the truth is not known."""
    found = []
    for target, out, own in zip(targets, parts(targets, "answers"), parts(targets), strict=True):
        truth = torch.from_numpy(np.nan_to_num(values[:, own]))
        cost = elements(target, _logits(target, torch.from_numpy(said[:, out])), truth).double().numpy()
        found.append(np.where(np.isfinite(values[:, own]), cost, np.nan))
    return found


def _logits(target: Target, said: Tensor) -> Tensor:
    """What a head must have given to be answered like this."""
    match target:
        case Classes():
            return said.clamp_min(EPS).log()
        case Flags():
            return said.clamp(EPS, 1 - EPS).logit()
        case Levels():
            return (1 - said.cumsum(1)[:, :-1]).clamp(EPS, 1 - EPS).logit()
        case Number():
            return ((said - target.mean) / target.scale).float()
    raise NotImplementedError(target.kind)


def _judge(target: Target, said: Floats, values: Floats, rule: Rule, resamples: int) -> Metrics:
    match target, rule:
        case Classes(), Decision() as decision:
            p, labels = decision.calibrated(said), values[:, 0].astype(np.int64)
            found = summarise(torch.from_numpy(p), torch.from_numpy(labels), classes=target.names, resamples=resamples)
            told = decision.judge(p, labels) if resamples > 1 else {}
            return {k: v for k, v in found.items() if "/" not in k} | {f"decided_{k}": v for k, v in told.items()}
        case Levels(), _:
            return of_levels(median(said), values[:, 0].astype(np.int64), resamples=resamples)
        case Flags(), Cuts(cuts=cuts):
            found = of_flags(said, values, target.names, cuts, resamples=resamples)
            return found if target.listed else {k.removeprefix(f"{target.column}/"): v for k, v in found.items()}
        case Number(), Band(half=half):
            found = of_numbers(said[:, 0], values[:, 0], resamples=resamples)
            error = values[:, 0] - said[:, 0]
            return found | ({} if half is None else held(error, half, resamples=resamples) | {"half_width": half})
    raise NotImplementedError(target.kind)


def _by_group(
    targets: Sequence[Target], said: Floats, values: Floats, rules: Mapping[str, Rule], groups: np.ndarray,
    resamples: int,
) -> Metrics:  # fmt: skip
    """What columns are compared by, on the images of each group, with its interval."""
    found: Metrics = {}
    for target, out, own in zip(targets, parts(targets, "answers"), parts(targets), strict=True):
        known, key = np.isfinite(values[:, own]).any(axis=1), compared(target)
        name = key.removeprefix(f"{target.column}/")
        for group in np.unique(groups[known]):
            at = known & (groups == group)
            inside = _judge(target, said[at, out], values[at, own], rules[target.column], resamples)
            ends = (end for end in ("", "_low", "_high") if f"{name}{end}" in inside)
            found |= {f"{key}/{group}{end}": inside[f"{name}{end}"] for end in ends}
    return found


def _over_columns(targets: Sequence[Target], said: Floats, values: Floats, resamples: int) -> Metrics:
    pairs = zip(targets, parts(targets, "answers"), parts(targets), strict=True)
    flags = [(target, out, own) for target, out, own in pairs if isinstance(target, Flags)]
    if len(flags) < 2:
        return {}
    p, truth = (np.concatenate([x[:, at] for at in places], axis=1)
                for x, places in ((said, [o for _, o, _ in flags]), (values, [o for *_, o in flags])))  # fmt: skip
    names = [f"{target.column}/{name}" for target, _, _ in flags for name in target.names]
    found = of_flags(p, truth, names, [0.5] * len(names), resamples=resamples)
    return {name: value for name, value in found.items() if name.startswith("mean_average_precision")}
