"""How good are the heads? Every head's own numbers with 95 % intervals, and the loss that training goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from visionft.arrays import Floats
from visionft.data.targets import Classes, Flags, Levels, Number, Target, parts
from visionft.evaluation.classification import summarise
from visionft.evaluation.decision import Decision
from visionft.evaluation.flags import of_flags
from visionft.evaluation.levels import of_levels
from visionft.evaluation.numbers import held, of_numbers
from visionft.tasks.heads import elements

from .rules import Band, Cuts, Rule, median

Metrics = dict[str, float]
SMALL = ("mae", "rmse", "ece")  # better when lower, though their names do not say so
EPS = float(np.finfo(np.float32).eps)


def judge(
    targets: Sequence[Target], said: Floats, values: Floats, rules: Mapping[str, Rule], *, resamples: int = 1000
) -> Metrics:
    """COLUMN/METRIC of answers (N A, numbers in their unit) against the truth (N V), images without it left out.

    Also COLUMN/loss, as it is trained for, and `log_loss`, their mean; with several columns of flags
    mean_average_precision over all of them. What the images leave undefined is left out, it is never nan.
    """
    found = losses(targets, said, values)
    for target, out, own in zip(targets, parts(targets, "answers"), parts(targets), strict=True):
        known = np.isfinite(values[:, own]).any(axis=1)
        if known.any():
            own_metrics = _judge(target, said[known, out], values[known, own], rules[target.column], resamples)
            found |= {f"{target.column}/{name}": value for name, value in own_metrics.items()}
    return found | _over_columns(targets, said, values, resamples)


def watched(targets: Sequence[Target], said: Floats, values: Floats, rules: Mapping[str, Rule]) -> Metrics:
    """What early stopping may watch: no intervals, and nothing that is better when lower without saying so."""
    found = judge(targets, said, values, rules, resamples=1)
    return {k: v for k, v in found.items() if not k.endswith(("_low", "_high")) and k.rpartition("/")[2] not in SMALL}


def losses(targets: Sequence[Target], said: Floats, values: Floats) -> Metrics:
    """`log_loss`, the mean over columns of COLUMN/loss, each the mean over what is known."""
    found = {}
    for target, out, own in zip(targets, parts(targets, "answers"), parts(targets), strict=True):
        known = np.isfinite(values[:, own])
        if known.any():
            truth = torch.from_numpy(np.nan_to_num(values[:, own]))
            cost = elements(target, _logits(target, torch.from_numpy(said[:, out])), truth)
            found[f"{target.column}/loss"] = float(cost.double().numpy()[known].mean())
    return {"log_loss": float(np.mean([*found.values()])), **found} if found else {}


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
