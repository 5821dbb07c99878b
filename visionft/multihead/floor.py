"""What frozen features say of every column before anything is trained: the floor, and where the heads begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import compress
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from visionft.arrays import Floats
from visionft.backbone import Backbone
from visionft.data.targets import Classes, Flags, Levels, Number, Target, parts
from visionft.evaluation.folds import fold_of, kin
from visionft.evaluation.ordinal import fit_ordinal
from visionft.evaluation.probe import FALLBACK, fit_probe
from visionft.evaluation.ridge import fit_ridge
from visionft.log import Console
from visionft.tasks.heads import prior, rows, said

from .deal import Dealt

FOLDS = 4
Fit = tuple[Tensor, Tensor, float]  # rows of weights, biases, penalty


@dataclass(frozen=True)
class Probes:
    """A linear probe for every column, as one layer of `Rows`; `l2` holds the penalties, in order."""

    targets: Sequence[Target]
    weight: Tensor  # rows D
    bias: Tensor  # W
    l2: tuple[float, ...]

    @classmethod
    def fit(
        cls,
        targets: Sequence[Target],
        z: Tensor,
        values: Floats,
        l2: Sequence[float] = (),
        groups: Sequence[str] | None = None,
    ) -> Probes:
        """From features N D and values N V; without `l2`, the penalties are cross-validated, by `groups` if named."""
        given, weights, biases, chosen = iter(l2), [], [], []
        for target, own in zip(targets, parts(targets), strict=True):
            for weight, bias, penalty in _fit(target, z, torch.from_numpy(values[:, own]), given, groups):
                weights.append(weight)
                biases.append(bias)
                chosen.append(penalty)
        return cls(targets, torch.cat(weights), torch.cat(biases), tuple(chosen))

    def answers(self, z: Tensor) -> Floats:
        """N D -> N A, numbers in their unit."""
        logits = F.linear(z, self.weight)[:, rows(self.targets)] + self.bias
        return in_units(self.targets, said(self.targets, logits))


def in_units(targets: Sequence[Target], answers: Tensor) -> Floats:
    """N A as heads say them -> with numbers in the unit of their column; in float64, which can hold large ones."""
    found = answers.double().numpy().copy()
    for target, at in zip(targets, parts(targets, "answers"), strict=True):
        if isinstance(target, Number):
            found[:, at] = found[:, at] * target.scale + target.mean
    return found


class Held(NamedTuple):
    """What is said of images that were not learnt from (M A), what is true of them (M V), and groups if these count."""

    said: Floats
    values: Floats
    groups: Sequence[str] | None = None


@dataclass(frozen=True)
class Floor:
    """Features of the backbone as it is, and what probes make of them; fitted when they are asked for."""

    dealt: Dealt
    known_z: Tensor  # of the images that may be looked at, those of train before those of val
    test_z: Tensor

    @classmethod
    def of(cls, backbone: Backbone, dealt: Dealt, size: int, console: Console) -> Floor:
        """Compute the features, or find them in the cache."""
        parts = dealt.parts
        known, test = (part.features(backbone, size, progress=console.progress(f"features, {name}"))
                       for name, part in (("train and val", parts.known), ("test", parts.test)))  # fmt: skip
        return cls(dealt, known, test)

    @cached_property
    def values(self) -> Floats:
        """What is known of the images that may be looked at."""
        return self.dealt.values(self.dealt.parts.known)

    @property
    def val_z(self) -> Tensor:
        """Of the images that may only be chosen by."""
        return self.known_z[len(self.dealt.parts.train.table) :]

    @cached_property
    def known(self) -> Probes:
        """Probes of all images that may be looked at."""
        return Probes.fit(self.dealt.targets, self.known_z, self.values, groups=self.groups)

    @cached_property
    def train(self) -> Probes:
        """Probes of the training images alone."""
        part = self.dealt.parts.train
        count, groups = len(part.table), self.dealt.parts.groups(part)
        return Probes.fit(self.dealt.targets, self.known_z[:count], self.values[:count], groups=groups)

    @property
    def groups(self) -> list[str] | None:
        """Of the images that may be looked at, where groups stay together."""
        return self.dealt.parts.groups(self.dealt.parts.known)

    def held_out(self, seed: int) -> Held:
        """What probes with the same penalties say of known images while these, or their groups, are left out."""
        first = kin(self.known_z, self.groups)
        fold = fold_of(torch.zeros_like(first), FOLDS, seed, first)
        said = np.empty((len(fold), sum(target.answers for target in self.dealt.targets)))
        for f in range(int(fold.max()) + 1):
            out, rest = fold == f, fold != f
            probes = Probes.fit(self.dealt.targets, self.known_z[rest], self.values[rest.numpy()], self.known.l2)
            said[out.numpy()] = probes.answers(self.known_z[out])
        judged = (fold >= 0).numpy()
        return Held(said[judged], self.values[judged], self.groups and list(compress(self.groups, judged)))


def _fit(target: Target, z: Tensor, values: Tensor, given: Iterator[float], groups: Sequence[str] | None) -> list[Fit]:
    """The probe of a column; flags are probes of their own."""
    fit = _flag if isinstance(target, Flags) else partial(_one, target)
    return [
        fit(z[known], own[known], next(given, None), groups and list(compress(groups, known)))
        for known, own in zip(values.isfinite().T, values.T, strict=True)
    ]


def _flag(z: Tensor, values: Tensor, l2: float | None, groups: Sequence[str] | None) -> Fit:
    if len(values.unique()) < 2:
        share = float(values.mean()) if len(values) else 0.5
        return z.new_zeros(1, z.shape[1]), torch.tensor([prior(share, len(values))]), l2 or FALLBACK
    found = fit_probe(z, values.long(), classes=2, l2=l2, groups=groups)
    return found.weight[1:] - found.weight[:1], found.bias[1:] - found.bias[:1], found.l2


def _one(target: Target, z: Tensor, values: Tensor, l2: float | None, groups: Sequence[str] | None) -> Fit:
    if len(values.unique()) < 2:  # nothing to tell apart: the head says what it has seen
        return _still(target, z), _constant_bias(target, values), l2 or FALLBACK
    match target:
        case Classes():
            found = fit_probe(z, values.long(), classes=target.width, l2=l2, groups=groups)
        case Levels():
            found = fit_ordinal(z, values.long(), count=target.answers, l2=l2, groups=groups)
        case Number():
            found = fit_ridge(z, (values - target.mean) / target.scale, l2=l2, groups=groups)
    return found.weight, found.bias, found.l2


def _still(target: Target, z: Tensor) -> Tensor:
    return z.new_zeros(max(rows([target])) + 1, z.shape[1])


def _constant_bias(target: Target, values: Tensor) -> Tensor:
    n = len(values)
    match target:
        case Number():
            return torch.tensor([(float(values[0]) - target.mean) / target.scale if n else 0.0])
        case Levels():
            shares = [float((values > k).double().mean()) if n else 0.5 for k in range(target.width)]
        case _:
            shares = [float((values == k).double().mean()) if n else 1 / target.width for k in range(target.width)]
    return torch.tensor([prior(share, n) for share in shares])
