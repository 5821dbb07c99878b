"""Which weights learn, and how fast: an ordered table {pattern: rate}; the first match wins and 0 freezes.

A rate may begin later, `0.5 from 0.3`: frozen for the first three tenths of the run, then half the full rate.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from . import norms
from .config import suggest
from .errors import ConfigError
from .folding import Norm
from .recipe import Recipe

Tuning = dict[str, float | str]
NAMES = (
    "full", "probe", "probe-then-full", "last:K", "stage:K", "layerwise", "layerwise:TOTAL", "gradual",
    "surgical:first", "surgical:last", "norm", "bias",
)  # fmt: skip

FULL: Tuning = {r".*": 1.0}
LINEAR_PROBE: Tuning = {r"backbone\..*": 0.0, r".*": 1.0}
PLAIN = {"full": FULL, "probe": LINEAR_PROBE, "probe-then-full": FULL}
SELECTIVE = ("norm", "bias")  # BitFit (arXiv:2106.10199), or the affine weights of norms (arXiv:2003.00152)
PATCHES, NEW = 3e-4, 1e-3  # peak learning rates (measured: benchmarks.quality.rates)
GRADUAL = 0.5  # share of the run by which the stem learns, too
BASE: Tuning = {r"backbone\.net\..*": 0.0}  # what an adapter leaves as it is


@dataclass(frozen=True)
class Rule:
    """A rate relative to the recipe's, and the share of the run from which it holds."""

    rate: float
    begin: float = 0.0

    @classmethod
    def of(cls, pattern: str, value: Any) -> Rule:
        """Read `0.5` or `0.5 from 0.3`. Raises ConfigError for anything else."""
        said = re.fullmatch(r"([^ ]+)(?: +from +([^ ]+))?", str(value).strip())
        try:
            rate, begin = (float(word) for word in (said[1], said[2] or 0)) if said else (-1.0, 0.0)
        except ValueError:
            rate, begin = -1.0, 0.0
        if isinstance(value, bool) or not 0 <= rate < float("inf") or not 0 <= begin < 1:
            what = "0 freezes, 1 is the full rate, '1 from 0.3' begins after three tenths of the run"
            raise ConfigError(f"tuning rule {pattern} has rate {value}; {what}")
        return cls(rate, begin)


def check(choice: Any) -> None:
    """Raise ConfigError unless this is the name of a table, or a table; it needs no model, so it can be asked first."""
    if isinstance(choice, Mapping):
        for pattern, value in choice.items():
            _check_pattern(pattern)
            Rule.of(str(pattern), value)
        return
    word, _, number = str(choice).partition(":")
    whole = number.isdigit() and int(number) > 0
    well = {
        "last": whole, "stage": whole, "layerwise": not number or _positive(number), "surgical": number in _SURGICAL,
        "gradual": not number, "norm": not number, "bias": not number,
    }  # fmt: skip
    if choice not in PLAIN and not well.get(word):
        raise ConfigError(f"tune={choice!r} is no tuning table{suggest(str(choice), NAMES)}")


def table(objective: Any, choice: str | Mapping[str, float | str]) -> Tuning:
    """Resolve a recipe's `tune` to a table of patterns.

    `probe-then-full` is full training that begins with a probe's head. `last:K` trains the K layers next to the head,
    `stage:K` the last K stages (levels of resolution; quarters of a plain ViT). `layerwise:TOTAL` gives the stem TOTAL
    times the head's rate and the layers between a geometric ramp, so that one number means the same on every
    architecture. `gradual` begins with the last stage and adds the others one by one (arXiv:1801.06146).
    `surgical:first` and `surgical:last` train one stage (arXiv:2210.11466), `norm` and `bias` no more than their names
    say. The head always learns. With an adapter, the network's own weights stay, whatever the name.
    """
    check(choice)
    if isinstance(choice, Mapping):
        return {str(pattern): value for pattern, value in choice.items()}
    if getattr(objective.backbone, "adapter", None) is not None:
        return BASE | _named(objective, choice)
    return _named(objective, choice)


def _named(objective: Any, choice: str) -> Tuning:
    if choice in PLAIN:
        return dict(PLAIN[choice])
    word, _, number = choice.partition(":")
    if word == "bias":
        return {r".*\.bias": 1.0, **LINEAR_PROBE}
    if word == "norm":
        names = [re.escape(name) for name in _norm_weights(objective.backbone)]
        return {rf"backbone\.(?:{'|'.join(names)})": 1.0, **LINEAR_PROBE}
    depth: dict[str, int] = objective.backbone.depth_of()
    top = max(depth.values())
    if word == "last":
        return _by_level(depth, {d: float(d > top - int(number)) for d in range(top + 1)})
    if word == "layerwise":
        total = float(number or 0.1)
        return _by_level(depth, {d: total ** (1 - d / top) for d in range(top + 1)})
    stage: dict[str, int] = objective.backbone.stage_of()
    last = max(stage.values())
    if word == "gradual":
        begins = {s: GRADUAL * (last - s) / max(1, last) for s in range(last + 1)}
        return _by_level(stage, {s: f"1 from {begin:g}" if begin else 1.0 for s, begin in begins.items()})
    if word == "surgical":
        return _by_level(stage, {s: float(s == _SURGICAL[number] % (last + 1)) for s in range(last + 1)})
    return _by_level(stage, {s: float(s > last - int(number)) for s in range(last + 1)})


_SURGICAL = {"first": 0, "last": -1}


def apply(
    objective: nn.Module, tuning: Mapping[str, Any], *, lr: float, weight_decay: float, freeze_norms: bool = False
) -> list[dict[str, Any]]:
    """Freeze what the table freezes and return optimizer groups, each with its real rate and beginning, for the rest.

    Parameters that the objective itself keeps fixed (a teacher) are not ours to tune. Raises ConfigError when a
    pattern matches nothing or a parameter is matched by none.
    """
    rules = {pattern: Rule.of(pattern, value) for pattern, value in tuning.items()}
    norms = _batchnorm_weights(objective) if freeze_norms else set()
    groups: dict[tuple[Rule, float], list[nn.Parameter]] = defaultdict(list)
    used = set()
    for name, p in objective.named_parameters():
        if not p.requires_grad:
            continue
        pattern = next((r for r in rules if re.fullmatch(r, name)), None)
        if pattern is None:
            raise ConfigError(f"no tuning rule matches {name}; end the table with '.*'")
        used.add(pattern)
        learns = rules[pattern].rate > 0 and name not in norms
        p.requires_grad_(learns and not rules[pattern].begin)
        if learns:
            groups[rules[pattern], 0.0 if p.ndim < 2 else weight_decay].append(p)
    if idle := [r for r in rules if r not in used and r != ".*"]:
        raise ConfigError(f"these tuning rules match no parameter: {', '.join(idle)}")
    if not any(not rule.begin for rule, _ in groups):
        raise ConfigError("the tuning table freezes every parameter; nothing would learn")
    return [
        {"params": ps, "lr": lr * rule.rate, "weight_decay": wd, "begin": rule.begin}
        for (rule, wd), ps in groups.items()
    ]


def thaw(optimizer: torch.optim.Optimizer, progress: float) -> bool:
    """Let the groups learn whose time has come by this share of the run; says whether there were any."""
    due = [p for g in optimizer.param_groups if g["begin"] <= progress for p in g["params"] if not p.requires_grad]
    for p in due:
        p.requires_grad_(True)
    return bool(due)


def groups(objective: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Freeze and group an objective's parameters as a recipe says."""
    return apply(
        objective,
        table(objective, recipe.tune),
        lr=rate(objective, recipe),
        weight_decay=recipe.optim.weight_decay,
        freeze_norms=norms.stay(objective, recipe) and recipe.tune not in SELECTIVE,
    )


def rate(objective: Any, recipe: Recipe) -> float:
    """The recipe's peak learning rate; where it names none, the one that suits what learns.

    The objective's for the layers of a network that came with weights; from random ones PATCHES for a transformer and
    NEW for a convolutional network; NEW, too, where no more than a head, an adapter, norms or biases learn. They are
    AdamW's; raises ConfigError where another optimizer is left without one.
    """
    backbone = objective.backbone
    if recipe.optim.lr is not None:
        return recipe.optim.lr
    if recipe.optim.name != "adamw":
        raise ConfigError(f"optim.name={recipe.optim.name} has no rate that was measured to suit; say optim.lr=, too")
    if getattr(backbone, "adapter", None) is not None or recipe.tune in (*SELECTIVE, "probe"):
        return NEW
    if backbone.loaded.loaded:
        return float(objective.gentle)
    return NEW if backbone.patch is None else PATCHES


def describe(objective: nn.Module, groups: list[dict[str, Any]]) -> list[tuple[str, str, int, int]]:
    """Rows (first .. last name, rate, tensors, weights) of what learns and what is frozen, for the dry run."""
    names = {id(p): name for name, p in objective.named_parameters()}
    total = sum(p.numel() for p in objective.parameters())
    rows = [(f"{names[id(g['params'][0])]} .. {names[id(g['params'][-1])]}",
             f"{g['lr']:.2e}" + (f" from {g['begin']:.0%}" if g["begin"] else ""), len(g["params"]),
             sum(p.numel() for p in g["params"])) for g in groups]  # fmt: skip
    moving = {id(p) for g in groups for p in g["params"]}
    frozen = [p for p in objective.parameters() if id(p) not in moving]
    if frozen:
        rows.append(("(frozen)", "0", len(frozen), sum(p.numel() for p in frozen)))
    return [*rows, ("(all)", "", sum(r[2] for r in rows), total)]


def _check_pattern(pattern: Any) -> None:
    try:
        re.compile(str(pattern))
    except re.error as error:
        raise ConfigError(f"tuning rule {pattern} is no regular expression: {error}") from error


def _positive(number: str) -> bool:
    try:
        return 0 < float(number) < float("inf")
    except ValueError:
        return False


def _by_level(level: Mapping[str, int], rates: Mapping[int, float | str]) -> Tuning:
    rules: Tuning = {}
    for at, rate in sorted(rates.items()):
        names = [re.escape(n) for n, found in level.items() if found == at]
        if names:
            rules[rf"backbone\.(?:{'|'.join(names)})"] = rate
    return rules | FULL


def _batchnorm_weights(model: nn.Module) -> set[str]:
    return {
        f"{prefix}.{leaf}"
        for prefix, module in model.named_modules()
        if isinstance(module, Norm) and prefix.startswith("backbone.")
        for leaf, _ in module.named_parameters(recurse=False)
    }


def _norm_weights(backbone: nn.Module) -> list[str]:
    """Scales and shifts of all norms: what has one dimension and a module that is nothing else."""
    return [
        f"{prefix}.{leaf}"
        for prefix, module in backbone.named_modules()
        if "norm" in type(module).__name__.lower() or isinstance(module, Norm)
        for leaf, p in module.named_parameters(recurse=False)
        if p.ndim == 1
    ]
