"""Images of what is to be kept: one half for remedies, the other to judge by, the same halves in every run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visionft.data.prepare import Chosen, decoded
from visionft.data.records import Table
from visionft.data.scan import scan
from visionft.data.sources import read
from visionft.errors import DataError
from visionft.evaluation.worth import Labelled
from visionft.log import Console
from visionft.recipe import Finetune

FEWEST = 8  # different images


@dataclass(frozen=True)
class Retained:
    """Both halves, decoded; with labels where the source has them."""

    memory: Labelled
    judged: Labelled
    source: str
    fingerprint: str


def retained(recipe: Finetune, console: Console, *, dry: bool = False) -> Retained | None:
    """Read the images that `retained` names, if it names any. Raises DataError when they are too few."""
    if recipe.retained is None:
        return None
    found = scan(
        _table(recipe, console), bad=recipe.bad, channels=recipe.channels, white=recipe.white,
        progress=console.progress("scanning retained images"),
    )  # fmt: skip
    table = found.table
    pixels = decoded(recipe, table, console, dry=dry)
    parts = [Labelled(table.take(at), Chosen(pixels, at)) for at in halves(table)]
    console.say(f"retained: {len(parts[0].table)} images for remedies, {len(parts[1].table)} to judge by")
    return Retained(parts[0], parts[1], table.source, table.fingerprint)


def halves(table: Table) -> tuple[list[int], list[int]]:
    """Places of one half and the other: the source's own train and test, else every other image by label and content.

    An image that comes twice counts once. Nothing is drawn, so no seed and no other image's order changes the halves.
    """
    known: set[str] = set()
    places = [i for i, r in enumerate(table) if not (r.digest in known or known.add(r.digest))]  # type: ignore[func-returns-value]
    if len(places) < FEWEST:
        raise DataError(f"retained={table.source} holds {len(places)} different images; it takes {FEWEST} or more")
    if {"train", "test"} <= {table[i].split for i in places}:
        return [i for i in places if table[i].split != "test"], [i for i in places if table[i].split == "test"]
    ordered = sorted(places, key=lambda i: (-1 if table[i].label is None else table[i].label, table[i].digest))
    return sorted(ordered[::2]), sorted(ordered[1::2])


def _table(recipe: Finetune, console: Console) -> Table:
    try:
        return read(recipe.retained, labelled=True)
    except DataError as why:
        table = read(recipe.retained, labelled=False)
        console.say(f"retained images are taken without labels: {why}")
        return table


def answers_of(classes: tuple[str, ...], known: tuple[str, ...], count: int) -> np.ndarray | None:
    """Which of a classifier's `count` answers each class is, or None if that cannot be told.

    By name where the classifier's are `known`; else classes may be numbers of answers, or ImageNet's synsets
    (n01440764) if there are a thousand.
    """
    from timm.data import ImageNetInfo

    names = [list(known), [str(i) for i in range(count)]]
    if count == 1000:
        names.append(ImageNetInfo("imagenet-1k").label_names())
    for every in names:
        place = {name: i for i, name in enumerate(every)}
        if classes and all(name in place for name in classes):
            return np.array([place[name] for name in classes])
    return None
