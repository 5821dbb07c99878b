"""What a run says of an image, column by column, in the words and units of the table it has learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from visionft.arrays import Floats
from visionft.data.targets import Classes, Flags, Levels, Number, Target, parts
from visionft.evaluation.decision import Decision

from .rules import Band, Cuts, Rule, median


@dataclass(frozen=True)
class Label:
    """One class or level."""

    value: str
    probabilities: dict[str, float]
    unsure: bool = False  # of classes: whether not exactly one is plausible at the promised coverage

    def cells(self, column: str) -> dict[str, str]:
        """What a CSV says of it."""
        return {column: self.value, **{f"{column}/{n}": f"{p:.6f}" for n, p in self.probabilities.items()}}

    def __str__(self) -> str:
        return f"{self.value} ({self.probabilities[self.value]:.2f})"


@dataclass(frozen=True)
class Flag:
    """Yes or no."""

    value: bool
    probability: float  # of yes

    def cells(self, column: str) -> dict[str, str]:
        """What a CSV says of it."""
        return {column: str(int(self.value)), f"{column}/probability": f"{self.probability:.6f}"}

    def __str__(self) -> str:
        return f"{'yes' if self.value else 'no'} ({self.probability:.2f})"


@dataclass(frozen=True)
class Names:
    """Those of several flags that are set."""

    value: tuple[str, ...]
    probabilities: dict[str, float]  # of every flag

    def cells(self, column: str) -> dict[str, str]:
        """What a CSV says of it."""
        return {column: "|".join(self.value), **{f"{column}/{n}": f"{p:.6f}" for n, p in self.probabilities.items()}}

    def __str__(self) -> str:
        return "|".join(self.value) or "none"


@dataclass(frozen=True)
class Amount:
    """A number, and between which it lies as often as promised; None where nothing could be promised."""

    value: float
    low: float | None = None
    high: float | None = None

    def cells(self, column: str) -> dict[str, str]:
        """What a CSV says of it."""
        bounds = {f"{column}/low": self.low, f"{column}/high": self.high}
        return {column: f"{self.value:.6g}", **{n: "" if v is None else f"{v:.6g}" for n, v in bounds.items()}}

    def __str__(self) -> str:
        return f"{self.value:.4g}" + ("" if self.low is None else f" ({self.low:.4g} to {self.high:.4g})")


Value = Label | Flag | Names | Amount


@dataclass(frozen=True)
class Answers:
    """What the model says of one image: `answers.values["depth_mm"].value`, or shorter `answers["depth_mm"]`."""

    image: str
    values: dict[str, Value]

    def __getitem__(self, column: str) -> str | bool | tuple[str, ...] | float:
        """The value of a column, without probabilities and bounds."""
        return self.values[column].value

    def cells(self) -> dict[str, str]:
        """A row of a CSV: header -> text."""
        row = {"image": self.image}
        for column, value in self.values.items():
            row |= value.cells(column)
        return row

    def __str__(self) -> str:
        return "\t".join([self.image, *(f"{column}: {value}" for column, value in self.values.items())])


def answered(names: Sequence[str], targets: Sequence[Target], said: Floats, rules: Mapping[str, Rule]) -> list[Answers]:
    """What numbers (N A) mean by these rules."""
    columns = [
        _values(target, said[:, at], rules[target.column])
        for target, at in zip(targets, parts(targets, "answers"), strict=True)
    ]
    rows = zip(*columns, strict=True)
    named = [target.column for target in targets]
    return [Answers(name, dict(zip(named, row, strict=True))) for name, row in zip(names, rows, strict=True)]


def _values(target: Target, said: Floats, rule: Rule) -> Sequence[Value]:
    match target, rule:
        case Classes(names=names), Decision() as decision:
            p = decision.calibrated(said)
            doubts = decision.sets.unsure(p) if decision.sets else np.zeros(len(p), bool)
            return [Label(names[best], _by_name(names, row), bool(doubt))
                    for best, row, doubt in zip(decision.choose(p).tolist(), p, doubts, strict=True)]  # fmt: skip
        case Levels(names=names), _:
            return [Label(names[at], _by_name(names, row)) for at, row in zip(median(said).tolist(), said, strict=True)]
        case Flags(listed=False), Cuts(cuts=(cut,)):
            return [Flag(p >= cut, p) for p in said[:, 0].tolist()]
        case Flags(names=names), Cuts(cuts=cuts):
            there = [tuple(n for n, p, cut in zip(names, row, cuts, strict=True) if p >= cut) for row in said]
            return [Names(flags, _by_name(names, row)) for flags, row in zip(there, said, strict=True)]
        case Number(), Band(half=None):
            return [Amount(v) for v in said[:, 0].tolist()]
        case Number(), Band(half=float(half)):
            return [Amount(v, v - half, v + half) for v in said[:, 0].tolist()]
    raise NotImplementedError(target.kind)


def _by_name(names: Sequence[str], row: Floats) -> dict[str, float]:
    return dict(zip(names, row.tolist(), strict=True))
