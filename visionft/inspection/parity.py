"""Does an exported file answer as PyTorch does, and how long does it take? Asked on real photos."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionft.arrays import Bools, Floats
from visionft.errors import CheckpointError
from visionft.precision import exact

from .eye import Seen
from .onnx import Run
from .panel import Panel

RUNS, SECONDS = 100, 10.0  # that are timed: whichever ends first


@dataclass(frozen=True)
class Parity:
    """How far the answers of a file are from PyTorch's, at most, in standard deviations of good parts' scores."""

    photos: int  # each judged alone and with others
    together: int
    apart: float  # in the same arithmetic, float32
    shift: float  # where PyTorch computes as is fastest on this machine, perhaps in bf16
    mean_shift: float  # of the file's scores from these, with its sign
    otherwise: int  # photos that PyTorch decides otherwise then, none farther from the threshold than `shift`


@dataclass(frozen=True)
class Said:
    """What is compared, of N photos: numbers (N K), the score first, and decisions."""

    numbers: Floats
    rejects: Bools

    @classmethod
    def of(cls, outputs: Sequence[Sequence[Any]]) -> Said:
        """From the outputs of a file, one batch after another: scores, those of each eye, and the hottest place."""
        score, _, reject, each, heat = (np.concatenate(own) for own in zip(*outputs, strict=True))
        hottest = heat.reshape(len(heat), -1).max(1, keepdims=True)
        return cls(np.concatenate([score[:, None], each, hottest], 1).astype(np.float64), reject)

    @classmethod
    def by(cls, seen: Sequence[Seen], threshold: float) -> Said:
        """From what a panel has seen."""
        numbers = np.array([[one.score, *one.each, one.map.max()] for one in seen])
        return cls(numbers, numbers[:, 0] > threshold)


def compare(
    run: Run, panel: Panel, threshold: float, photos: Sequence[np.ndarray], names: Sequence[str], *, batch: int,
    tolerance: float, shift: float,
) -> Parity:  # fmt: skip
    """Raise CheckpointError, which names the worst photo, where answers differ by more than they may."""
    alone, together, seen, fast = (list[Any]() for _ in range(4))
    for start in range(0, len(photos), batch):
        some = [photos[at] for at in range(start, min(start + batch, len(photos)))]
        alone += [run(photo[None]) for photo in some]
        together.append(run(np.stack(some)))
        fast += panel.see(some)
        with exact():
            seen += panel.see(some)
    one, wanted, itself = Said.of(alone), Said.by(seen, threshold), Said.by(fast, threshold)
    apart = [
        _apart(one, wanted, threshold, ("tolerance", tolerance), names, "judged alone"),
        _apart(Said.of(together), wanted, threshold, ("tolerance", tolerance), names, f"judged {batch} together"),
    ]
    return Parity(
        photos=len(photos), together=batch, apart=max(apart),
        shift=_apart(one, itself, threshold, ("shift", shift), names, "against the arithmetic of this machine"),
        mean_shift=float((one.numbers - itself.numbers)[:, 0].mean()),
        otherwise=int((one.rejects != itself.rejects).sum()),
    )  # fmt: skip


def _apart(
    said: Said, wanted: Said, threshold: float, limit: tuple[str, float], names: Sequence[str], how: str
) -> float:
    """The largest difference of all numbers."""
    key, most = limit
    apart = np.nan_to_num(np.abs(said.numbers - wanted.numbers), nan=np.inf)
    at, which = (int(place) for place in np.unravel_index(apart.argmax(), apart.shape))
    otherwise = (said.rejects != wanted.rejects) & (np.abs(wanted.numbers[:, 0] - threshold) > most)
    if apart[at, which] > most:
        what = "the score" if which == 0 else "the hottest place" if which > apart.shape[1] - 2 else f"eye {which}"
        mine, theirs = said.numbers[at, which], wanted.numbers[at, which]
        raise CheckpointError(
            f"the file does not answer as PyTorch does, and is not kept: {names[at]}, {how}: {what} is {mine:.6g} and "
            f"not {theirs:.6g}; at most {key}={most:g} may lie between them"
        )
    if otherwise.any():
        name = names[int(otherwise.argmax())]
        raise CheckpointError(f"the file decides otherwise than PyTorch does, and is not kept: {name}, {how}")
    return float(apart[at, which])


def timed(judge: Callable[[np.ndarray], Any], photos: Sequence[np.ndarray]) -> dict[str, float]:
    """Milliseconds that one photo after another takes (1 H W C): p50 and p99 of so many runs."""
    some, spent = [photos[at][None] for at in range(min(8, len(photos)))], list[float]()
    judge(some[0])  # the first is slower
    began = time.perf_counter()
    while len(spent) < RUNS and time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        judge(some[len(spent) % len(some)])
        spent.append(1000 * (time.perf_counter() - start))
    p50, p99 = np.percentile(spent, [50, 99])
    return {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2), "runs": len(spent)}
