"""Measure what advice needs: frozen features cross-validated, at more than one size, by groups, by number of labels."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionft import preprocessing
from visionft.arrays import Floats
from visionft.backbone import Backbone
from visionft.data.decode import shrink
from visionft.data.prepare import Chosen
from visionft.data.split import first_of_each
from visionft.data.views import Views, batches
from visionft.errors import DataError
from visionft.evaluation.bootstrap import bootstrap, mean_of
from visionft.evaluation.learning_curve import learning_curve
from visionft.evaluation.worth import HeldOut, Labelled, held_out
from visionft.features import EVALUATION
from visionft.log import Console
from visionft.recipe import KEPT

from .facts import AtSize, Interval, Measured, Suspect

TRIED = 600  # images that other sizes are tried on
LARGER, SMALLER = 1.5, 0.5  # times the size asked for: images beyond are tried at twice, or half, the size
SHIFTED, SEEN = 64, 224  # images whose batch statistics are compared, at the size that most weights were trained at
SURE, DOUBTED = 0.9, 0.05  # probability of another class and of the label, for a label to look wrong
FOLDS = 4
SHARES = (0.25, 0.5, 1.0)  # of the labels, for the learning curve; the last step is a doubling
SPARED = 4  # images a class on average, below which there is none


@dataclass(frozen=True)
class Looked:
    """The labelled images that may be looked at, decoded for `size` pixels, and `fine` enough for twice that."""

    some: Labelled
    fine: Sequence[np.ndarray]
    aside: int
    by_group: bool


def measured(looked: Looked, backbone: Backbone, size: int, short: int, console: Console) -> Measured:
    """All numbers of one backbone; `short` is the shorter side of the median image."""
    some = looked.some
    classes = len(some.table.classes)
    began = time.perf_counter()
    z = some.features(backbone, size, progress=console.progress("features"))
    console.say(f"features of {len(z)} images in {time.perf_counter() - began:.0f} s; now the quick classifier")
    said = held_out(z, some.labels, classes, FOLDS)
    knn, probe = said.hits(some.labels)
    counts = torch.bincount(some.labels, minlength=classes)
    return Measured(
        images=len(z),
        aside=looked.aside,
        fewest=int(counts[counts > 0].min()),
        chance=mean_of(some.labels.numpy() == int(counts.argmax())),
        knn=mean_of(knn),
        probe=mean_of(probe),
        **_curve(z, some, classes, looked.by_group),
        **_recalls(said, some),
        sizes=_sizes(looked, backbone, size, short, mean_of(probe), console),
        **_new_groups(z, said, some, looked.by_group),
        suspects=suspects(said, some),
        shift=distance(backbone, looked.fine),
    )


def _curve(z: Tensor, some: Labelled, classes: int, by_group: bool) -> dict[str, Any]:
    """Accuracy by number of labels, where there are enough of them to leave some out."""
    if len(some.table) < SPARED * classes:
        return {}
    groups = some.table.groups if by_group else None
    try:
        curve = learning_curve(z, some.labels, classes, shares=SHARES, groups=groups)
    except DataError:  # too few groups
        return {}
    return {"curve": tuple(curve.points), "doubling": curve.gain}


def distance(backbone: Backbone, pixels: Sequence[np.ndarray]) -> float | None:
    """Shift of all batch norms on a few images, at the size that weights are usually trained at."""
    if not backbone.loaded.loaded or not len(pixels):
        return None
    places = np.linspace(0, len(pixels) - 1, min(SHIFTED, len(pixels))).round().astype(int)
    side = SEEN if flexible(backbone) else backbone.size or SEEN
    images = next(
        batches(Views([pixels[i] for i in places], EVALUATION, {"image": side}, channels=backbone.channels), SHIFTED)
    )
    return preprocessing.shift(backbone, images["image"], first=None)


def suspects(said: HeldOut, some: Labelled) -> tuple[Suspect, ...]:
    """Labels that the probe all but excludes and the neighbours do not share, the surest first."""
    labels, table = some.labels, some.table
    sure, guess = said.probe.max(1)
    own = said.probe[torch.arange(len(labels)), labels]
    odd = (said.fold >= 0) & (guess != labels) & (sure >= SURE) & (own <= DOUBTED) & (said.knn.argmax(1) == guess)
    worst = sorted(odd.nonzero().flatten().tolist(), key=lambda i: -float(sure[i]))
    return tuple(
        Suspect(name=table[i].name, label=table.classes[int(labels[i])], said=table.classes[int(guess[i])],
                probability=float(sure[i]))
        for i in worst
    )  # fmt: skip


def flexible(backbone: Backbone) -> bool:
    """Whether the network takes any image size: a convolutional one does."""
    return any(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.net.modules())


def _recalls(said: HeldOut, some: Labelled) -> dict[str, Any]:
    """Recall of every class, and what dividing probabilities by the classes' shares would do to their mean."""
    judged, labels = (said.fold >= 0).numpy(), some.labels.numpy()
    counts = np.bincount(labels, minlength=len(some.table.classes))
    p = said.probe.numpy()[judged]
    truth = labels[judged]
    plain = p.argmax(1) == truth
    weighed = (p / np.maximum(counts, 1)).argmax(1) == truth
    member = np.eye(len(counts))[truth][:, np.bincount(truth, minlength=len(counts)) > 0]  # M C

    def recall(draws: Floats, hits: np.ndarray) -> Floats:
        found: Floats = ((draws * hits) @ member / np.maximum(draws @ member, 1e-9)).mean(1)
        return found

    def gain(draws: Floats) -> Floats:
        return recall(draws, weighed) - recall(draws, plain)

    once = np.ones((1, len(truth)))
    return {
        "recall": {
            name: float(plain[truth == c].mean()) for c, name in enumerate(some.table.classes) if (truth == c).any()
        },
        "balanced": float(recall(once, plain)[0]),
        "rebalancing": (float(gain(once)[0]), *bootstrap(gain, len(truth))),
        "rebalanced_accuracy": float(weighed.mean()),
    }


def _sizes(
    looked: Looked, backbone: Backbone, size: int, short: int, probe: Interval, console: Console
) -> tuple[AtSize, ...]:
    """The probe at the size asked for and at twice or half of it, if images have so many or so few pixels."""
    some, fine, classes = looked.some, looked.fine, len(looked.some.table.classes)
    wanted = 2 * size if short >= LARGER * size else size // 2 if short <= SMALLER * size else size
    other = backbone.side(min(wanted, short) if wanted > size else wanted)
    base = AtSize(size=size, probe=probe, gain=(0.0, 0.0, 0.0), ms=1e3 * some.seconds(backbone, size))
    if other == size or not flexible(backbone):
        return (base,)
    places = first_of_each(some.table, min(1.0, TRIED / len(some.table)), seed=0)
    part = Labelled(some.table.take(places), Chosen(some.pixels, places))
    large = Labelled(part.table, [shrink(fine[i], round(other * KEPT)) for i in places])
    console.say(f"the same at {other} pixels, on {len(places)} images")
    here = held_out(part.features(backbone, size), part.labels, classes, FOLDS).hits(part.labels)[1]
    z = large.features(backbone, other, store=False, progress=console.progress(f"features at {other} pixels"))
    there = held_out(z, part.labels, classes, FOLDS).hits(part.labels)[1]
    return (
        dataclasses.replace(base, probe=mean_of(here)),
        AtSize(size=other, probe=mean_of(there), gain=mean_of(there.astype(np.float64) - here),
               ms=1e3 * large.seconds(backbone, other)),
    )  # fmt: skip


def _new_groups(z: Tensor, said: HeldOut, some: Labelled, by_group: bool) -> dict[str, Any]:
    """The probe on groups that it has not learnt from, and by how much mixed groups flatter it."""
    if not by_group:
        return {}
    labels, names = some.labels, np.array(some.table.groups)
    apart = held_out(z, labels, len(some.table.classes), FOLDS, some.table.groups)
    judged = ((said.fold >= 0) & (apart.fold >= 0)).numpy()
    if not judged.any():
        return {}
    hits, mixed = ((found.probe.argmax(1) == labels).double().numpy()[judged] for found in (apart, said))
    lost = mixed - hits
    member = (names[judged][:, None] == np.unique(names[judged])).astype(np.float64)  # M G

    def over_groups(values: np.ndarray) -> Interval:  # images of a group are alike: whole groups are drawn anew
        total, size = values @ member, member.sum(0)
        low, high = bootstrap(lambda draws: draws @ total / np.maximum(draws @ size, 1e-9), len(size))
        return float(values.mean()), low, high

    return {"new_groups": over_groups(hits), "group_gap": over_groups(lost)}
