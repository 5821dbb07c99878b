"""Eyes that learn from good images and judge others, each image once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from visionft.arrays import Bools, Floats
from visionft.backbone import Backbone
from visionft.data.prepare import Chosen

from .eye import Eye, Seen
from .stream import stream

Progress = Callable[[int, int], None]


def learn(
    eyes: Sequence[Eye], backbone: Backbone, images: Sequence[np.ndarray], folds: int,
    progress: Progress | None = None, *, beside: Sequence[Eye] = (),
) -> None:  # fmt: skip
    """Let eyes learn from good images, H W C each, in one pass; image i belongs to fold i % folds.

    Those `beside` them are shown the same, and are to see more before they settle.
    """
    for eye in eyes:
        eye.scorers.begin(folds)
    feed([*eyes, *beside], backbone, images, progress)
    for eye in eyes:
        eye.scorers.settle()


def feed(
    eyes: Sequence[Eye], backbone: Backbone, images: Sequence[np.ndarray],
    progress: Progress | None = None, **words: Any,
) -> None:  # fmt: skip
    """Let eyes take images; `words` go with them."""
    for done, (patches, owners) in enumerate(stream([eye.sight for eye in eyes], backbone, images)):
        for eye in eyes:
            if eye.sight in patches:
                eye.scorers.take(patches[eye.sight], owners, **words)
        if progress and not done % 4:
            progress(owners[-1].at + 1, len(images))


def look(
    eyes: Sequence[Eye], backbone: Backbone, images: Sequence[np.ndarray], *, inside: Bools | None = None,
    without: int | None = None, bad: bool = False,
) -> list[list[Seen]]:  # fmt: skip
    """What each eye makes of each image (H W C); `without` a fold, whose images these are, as if it had not seen them.

    Of images that are `bad`, it has seen none unless it learns from defects.
    """
    maps: list[list[list[Floats]]] = [[[] for _ in range(len(images))] for _ in eyes]
    sizes: dict[int, tuple[int, int]] = {}
    for patches, owners in stream([eye.sight for eye in eyes], backbone, images):
        sizes |= {owner.at: owner.size for owner in owners}
        for eye, own in zip(eyes, maps, strict=True):
            if eye.sight in patches:
                seen = without if eye.scorer.learns_defects or not bad else None
                for one, owner in zip(eye.scorers.scored(patches[eye.sight], owners, seen), owners, strict=True):
                    own[owner.at].append(one.double().numpy())
    return [
        [eye.joined(sizes[at], of, inside) for at, of in enumerate(own)] for eye, own in zip(eyes, maps, strict=True)
    ]


def held_out(
    eyes: Sequence[Eye], backbone: Backbone, images: Sequence[np.ndarray], folds: int, *, inside: Bools | None = None,
    progress: Progress | None = None, bad: bool = False,
) -> list[list[Seen]]:  # fmt: skip
    """What each eye makes of the good images, or the `bad` ones, that were shown to it, as if they had not been."""
    found: list[dict[int, Seen]] = [{} for _ in eyes]
    for fold in range(folds):
        places = range(fold, len(images), folds)
        said = look(eyes, backbone, Chosen(images, places), inside=inside, without=fold, bad=bad)
        for own, seen in zip(found, said, strict=True):
            own.update(zip(places, seen, strict=True))
        if progress:
            progress(fold + 1, folds)
    return [[own[at] for at in range(len(images))] for own in found]
