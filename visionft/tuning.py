"""Which weights learn, and how fast: an ordered table {pattern: rate}; the first match wins and 0 freezes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import nn

from .config import suggest
from .errors import ConfigError
from .recipe import Recipe

Tuning = dict[str, float]
NAMES = ("full", "probe", "probe-then-full", "last:K", "layerwise", "layerwise:TOTAL")

FULL: Tuning = {r".*": 1.0}
LINEAR_PROBE: Tuning = {r"backbone\..*": 0.0, r".*": 1.0}
PLAIN = {"full": FULL, "probe": LINEAR_PROBE, "probe-then-full": FULL}


def check(choice: Any) -> None:
    """Raise ConfigError unless this is the name of a table, or a table; it needs no model, so it can be asked first."""
    if isinstance(choice, Mapping):
        for pattern, rate in choice.items():
            _check_rule(pattern, rate)
        return
    word, _, number = str(choice).partition(":")
    well = {"last": number.isdigit(), "layerwise": not number or _positive(number)}
    if choice not in PLAIN and not well.get(word):
        raise ConfigError(f"tune={choice!r} is no tuning table{suggest(str(choice), NAMES)}")


def table(objective: nn.Module, choice: str | Mapping[str, float]) -> Tuning:
    """Resolve a recipe's `tune` to a table of patterns.

    `probe-then-full` is full training that begins with a probe's head. `last:K` trains the K layers next to the head.
    `layerwise:TOTAL` gives the stem TOTAL times the head's rate and the layers between a geometric ramp, so that one
    number means the same on every architecture.
    """
    check(choice)
    if isinstance(choice, Mapping):
        return {str(pattern): float(rate) for pattern, rate in choice.items()}
    if choice in PLAIN:
        return dict(PLAIN[choice])
    word, _, number = choice.partition(":")
    depth: dict[str, int] = objective.backbone.depth_of()  # type: ignore[union-attr, operator]
    top = max(depth.values())
    if word == "last":
        return _by_depth(depth, {d: float(d > top - int(number)) for d in range(top + 1)})
    total = float(number or 0.1)
    return _by_depth(depth, {d: total ** (1 - d / top) for d in range(top + 1)})


def apply(
    objective: nn.Module, tuning: Tuning, *, lr: float, weight_decay: float, freeze_norms: bool = False
) -> list[dict[str, Any]]:
    """Freeze what the table freezes and return optimizer groups, each with its real rate, for the rest.

    Parameters that the objective itself keeps fixed (a teacher) are not ours to tune. Raises ConfigError when a
    pattern matches nothing or a parameter is matched by none.
    """
    norms = _batchnorm_weights(objective) if freeze_norms else set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    used = set()
    for name, p in objective.named_parameters():
        if not p.requires_grad:
            continue
        pattern = next((r for r in tuning if re.fullmatch(r, name)), None)
        if pattern is None:
            raise ConfigError(f"no tuning rule matches {name}; end the table with '.*'")
        used.add(pattern)
        p.requires_grad_(tuning[pattern] > 0 and name not in norms)
        if p.requires_grad:
            groups[tuning[pattern], 0.0 if p.ndim < 2 else weight_decay].append(p)
    if idle := [r for r in tuning if r not in used and r != ".*"]:
        raise ConfigError(f"these tuning rules match no parameter: {', '.join(idle)}")
    if not groups:
        raise ConfigError("the tuning table freezes every parameter; nothing would learn")
    return [{"params": ps, "lr": lr * rate, "weight_decay": wd} for (rate, wd), ps in groups.items()]


def groups(objective: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Freeze and group an objective's parameters as a recipe says."""
    o = recipe.optim
    return apply(
        objective,
        table(objective, recipe.tune),
        lr=o.lr,
        weight_decay=o.weight_decay,
        freeze_norms=norms_stay(objective, recipe),
    )


def norms_stay(objective: Any, recipe: Recipe) -> bool:
    """Whether the backbone's batch norms keep what they are; `auto` says so of those that came with weights."""
    return recipe.batchnorm == "frozen" or (recipe.batchnorm == "auto" and bool(objective.backbone.loaded.loaded))


def settle(model: nn.Module) -> None:
    """Train mode, except for modules whose every weight is frozen: their batch statistics must not move either."""
    model.train()
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(p.requires_grad for p in weights):
            module.eval()


def describe(objective: nn.Module, groups: list[dict[str, Any]]) -> list[tuple[str, str, int, int]]:
    """Rows (first .. last name, rate, tensors, weights) of what learns and what is frozen, for the dry run."""
    names = {id(p): name for name, p in objective.named_parameters()}
    total = sum(p.numel() for p in objective.parameters())
    rows = [(f"{names[id(g['params'][0])]} .. {names[id(g['params'][-1])]}", f"{g['lr']:.2e}", len(g["params"]),
             sum(p.numel() for p in g["params"])) for g in groups]  # fmt: skip
    frozen = [p for p in objective.parameters() if not p.requires_grad]
    if frozen:
        rows.append(("(frozen)", "0", len(frozen), sum(p.numel() for p in frozen)))
    return [*rows, ("(all)", "", sum(r[2] for r in rows), total)]


def _check_rule(pattern: Any, rate: Any) -> None:
    try:
        re.compile(str(pattern))
    except re.error as error:
        raise ConfigError(f"tuning rule {pattern} is no regular expression: {error}") from error
    if not isinstance(rate, (int, float)) or not 0 <= rate < float("inf"):
        raise ConfigError(f"tuning rule {pattern} has rate {rate}; 0 freezes, 1 is the full rate")


def _positive(number: str) -> bool:
    try:
        return 0 < float(number) < float("inf")
    except ValueError:
        return False


def _by_depth(depth: Mapping[str, int], rates: Mapping[int, float]) -> Tuning:
    rules: Tuning = {}
    for level, rate in sorted(rates.items()):
        names = [re.escape(n) for n, d in depth.items() if d == level]
        if names:
            rules[rf"backbone\.(?:{'|'.join(names)})"] = rate
    return rules | FULL


def _batchnorm_weights(model: nn.Module) -> set[str]:
    return {
        f"{prefix}.{leaf}"
        for prefix, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and prefix.startswith("backbone.")
        for leaf, _ in module.named_parameters(recurse=False)
    }
