"""What the columns of a table hold, who sees which images, and what is known of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

from visionft.arrays import Floats
from visionft.data import asked
from visionft.data.prepare import Prepared, prepare
from visionft.data.records import Table, fingerprint
from visionft.data.sources import read
from visionft.data.strata import stratified
from visionft.data.targets import Target, encode
from visionft.errors import ConfigError, DataError
from visionft.evaluation.worth import Labelled
from visionft.log import Console
from visionft.recipe import Finetune
from visionft.retention.retained import retained
from visionft.tasks.parts import Parts


@dataclass(frozen=True)
class Dealt:
    """What the columns hold, as the training images know it, and who sees which images."""

    parts: Parts
    targets: tuple[Target, ...]

    @classmethod
    def of(cls, recipe: Finetune, console: Console, *, dry: bool = False) -> Dealt:
        """Read, scan, decode and split, saying what the columns were taken for.

        Raises DataError for a column that is not there or cannot be read, before any image is opened.
        """
        columns = asked.columns(recipe.target)
        if recipe.data is None:
            raise ConfigError("data is missing: name a CSV with a path and these columns, e.g. data=parts.csv")
        table = read(recipe.data, labelled=False)
        targets = asked.infer(table, columns)
        for target in targets:
            console.say(asked.words(target, table))
        table = _known(targets, table, console)
        ready = prepare(dataclasses.replace(recipe, data=table), console, labelled=False, dry=dry)
        parts = dataclasses.replace(_deal(ready, targets, recipe), retained=retained(recipe, console, dry=dry))
        return cls(parts, learnt_from(targets, parts.train.table))

    def folds(self, recipe: Finetune) -> list[Dealt]:
        """Train dealt to folds, as `Parts.folds` deals it; what the columns hold is the same for all."""
        train = self.parts.train.table
        table = train if recipe.by_group else stratified(train, self.targets, encode(self.targets, train))
        return [dataclasses.replace(self, parts=parts) for parts in self.parts.folds(recipe, table)]

    def values(self, part: Labelled) -> Floats:
        """N V: what is known of these images."""
        return encode(self.targets, part.table)

    @cached_property
    def fingerprint(self) -> str:
        """One hash of the images and of what is known of them: a run resumes on both, or not at all."""
        table = self.parts.ready.table
        values = encode(self.targets, table)
        return fingerprint([f"{r.digest} {row}" for r, row in zip(table, values.tolist(), strict=True)])


def learnt_from(targets: tuple[Target, ...], table: Table) -> tuple[Target, ...]:
    """The targets, knowing the training images. Raises DataError for a column that none of them has a value of."""
    found = []
    for target in targets:
        values = encode([target], table)
        if values.shape[0] and not (values == values).any():
            raise DataError(f"no training image has a value of {target.column}")
        found.append(target.learnt_from(values))
    return tuple(found)


def _known(targets: tuple[Target, ...], table: Table, console: Console) -> Table:
    """The records of which anything is known."""
    values = encode(targets, table)
    known = (values == values).any(axis=1).nonzero()[0]
    if left := len(table) - len(known):
        console.say(f"{left} of {len(table)} images have none of these values and are left out")
    return table.take(known.tolist())


def _deal(ready: Prepared, targets: tuple[Target, ...], recipe: Finetune) -> Parts:
    table = ready.table if recipe.by_group else stratified(ready.table, targets, encode(targets, ready.table))
    return Parts.of(ready, table, recipe)
