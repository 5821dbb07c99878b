"""How accuracy grows with labels from different starts, and how many labels a better start is worth."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visionft.arrays import Floats

from .bootstrap import crossed
from .starts import Start

Rows = Sequence[Mapping[str, Any]]  # start, answer, labels, seed, and hits: a digit 0 or 1 for every test image
Curve = list[tuple[int, float, float, float]]  # labels, mean accuracy and its interval
ANSWERS = {"probe": "the linear probe", "finetuned": "fine-tuning"}


def verdict(rows: Rows) -> str:
    """Say in plain sentences what self-supervision changed, and how many labels that is worth."""
    by = grouped(rows, "start", "answer")
    starts = sorted({Start(name): None for name, _ in by}, key=lambda start: not start.pretrained)
    said = [_sentence(start, answer, by[start.name, answer], by[start.base, answer]) for start in starts if start.by
            for answer in ANSWERS if (start.name, answer) in by and (start.base, answer) in by]  # fmt: skip
    for one, other in itertools.combinations((start for start in starts if start.by), 2):
        said += [_rather(one, other, answer, by[one.name, answer], by[other.name, answer]) for answer in ANSWERS
                 if one.base == other.base and (one.name, answer) in by and (other.name, answer) in by]  # fmt: skip
    return " ".join(said)


def _compared(ours: Rows, others: Rows) -> tuple[str, str]:
    """Image by image, over all shares of the labels at once: better, worse or not proven different; the points."""
    mean, low, high = crossed(_hits(ours) - _hits(others))
    how = "better" if low > 0 else "worse" if high < 0 else "not proven different"
    return how, f"{100 * mean:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def _rather(one: Start, other: Start, answer: str, ours: Rows, others: Rows) -> str:
    how, points = _compared(ours, others)
    return f"By {one.how} rather than {other.how}, {ANSWERS[answer]} is {how}: {points}{_where(ours, others)}."


def _sentence(start: Start, answer: str, better: Rows, than: Rows) -> str:
    how, points = _compared(better, than)
    ratio = labels_worth(curve(better), curve(than)) if how == "better" else None
    worth = f", as if there were {ratio:.1f} times as many labels" if ratio else ""
    which = f"Starting from {Start(start.base)}, {start.how} makes {ANSWERS[answer]} {how}"
    return f"{which}: {points} over all shares of labels{worth}{_where(better, than)}."


def _where(better: Rows, than: Rows) -> str:
    """The numbers of labels at which the difference is proven, in words; nothing where it is at none."""
    sides: dict[str, list[str]] = {"better": [], "worse": []}
    for labels, mean, low, high in gains(better, than):
        if low > 0 or high < 0:
            sides["better" if low > 0 else "worse"].append(f"{labels} ({100 * mean:+.1f})")
    words = [f"{side} with {', '.join(found)} labels" for side, found in sides.items() if found]
    return f"; {'; '.join(words)}" if words else ""


def gains(better: Rows, than: Rows) -> Curve:
    """By how much accuracies differ for every number of labels, image by image."""
    pairs = zip(grouped(better, "labels").items(), grouped(than, "labels").values(), strict=True)
    return sorted((labels, *crossed(_hits(some) - _hits(others))) for ((labels,), some), others in pairs)


def labels_worth(better: Curve, base: Curve) -> float | None:
    """How many times more labels `base` needs for the accuracies of `better`: the geometric mean, where it gets there.

    `base` is read off straight lines over the logarithm of the number of labels, made monotone by running maxima.
    """
    labels = np.log([n for n, *_ in base])
    reached = np.maximum.accumulate([accuracy for _, accuracy, *_ in base])
    ratios = [
        float(np.interp(accuracy, reached, labels)) - math.log(n)
        for n, accuracy, *_ in better
        if reached[0] <= accuracy <= reached[-1]
    ]
    return math.exp(sum(ratios) / len(ratios)) if ratios else None


def curve(rows: Rows) -> Curve:
    """Mean accuracy for every number of labels, with an interval over draws of labels and of test images."""
    return sorted((n, *crossed(_hits(some))) for (n,), some in grouped(rows, "labels").items())


def grouped(rows: Rows, *keys: str) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    """Rows by the values of these keys, in order of appearance."""
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return dict(groups)


def joined(rows: Rows) -> list[dict[str, Any]]:
    """Rows of several folds as those of one, whose test images are those of all folds side by side."""
    cells = grouped(rows, "start", "answer", "fraction", "seed")
    return [
        {name: cell[0][name] for name in ("start", "answer", "fraction", "labels", "seed")}
        | {"hits": "".join(row["hits"] for row in cell)}
        for cell in cells.values()
    ]


def _hits(rows: Rows) -> Floats:
    """Seeds x test images: the share of an image's answers, over the shares of labels, that were right."""
    seeds = grouped(sorted(rows, key=lambda row: int(row["seed"])), "seed").values()
    return np.array([np.mean([[float(hit) for hit in row["hits"]] for row in some], axis=0) for some in seeds])
