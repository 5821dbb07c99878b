"""Who sees which images: some to learn from, some to choose by, some to be tested on and looked at by nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from visionft.data import split
from visionft.data.prepare import Prepared
from visionft.data.records import Table
from visionft.errors import DataError
from visionft.evaluation.worth import Labelled
from visionft.recipe import Finetune
from visionft.retention.retained import Retained


@dataclass(frozen=True)
class Parts:
    """The labelled images of a run, dealt."""

    ready: Prepared
    places: Mapping[str, Sequence[int]]  # in the table, of train, val and test
    retained: Retained | None = None  # images of what should not be forgotten
    by_group: bool = False  # whether groups stay together, here and wherever images are held out

    @classmethod
    def deal(cls, ready: Prepared, recipe: Finetune) -> Parts:
        """Split as the recipe says. Raises DataError when fewer than two classes are left to train on."""
        parts = cls.of(ready, ready.table, recipe)
        if len(set(parts.train.table.labels.tolist())) < 2:
            raise DataError(f"{ready.table.source} leaves fewer than two classes to train on")
        return parts

    @classmethod
    def of(cls, ready: Prepared, table: Table, recipe: Finetune) -> Parts:
        """Split by what a table says of the images (it has their records in their order): strata, groups, splits."""
        held = 0.0 if any(record.split == "test" for record in table) else recipe.test
        shares = {"val": recipe.val * (1 - held)} | ({"test": held} if held else {})
        dealt = split.split(table, shares, seed=recipe.seed, by_group=recipe.by_group)
        place = {id(record): i for i, record in enumerate(table)}
        places = {"test": [], **{name: [place[id(r)] for r in part] for name, part in dealt.items()}}
        return cls(ready, places, by_group=recipe.by_group)

    @cached_property
    def train(self) -> Labelled:
        """Images that are learned from."""
        return self._part(self.places["train"])

    @cached_property
    def val(self) -> Labelled:
        """Images that early stopping and choices look at."""
        return self._part(self.places["val"])

    @cached_property
    def test(self) -> Labelled:
        """Images that nothing but the last measurement looks at; there may be none."""
        return self._part(self.places["test"])

    @cached_property
    def known(self) -> Labelled:
        """All that may be looked at: those of train, then those of val."""
        return self._part([*self.places["train"], *self.places["val"]])

    def groups(self, part: Labelled) -> list[str] | None:
        """The group of each image of a part, where groups stay together."""
        return part.table.groups if self.by_group else None

    @property
    def more(self) -> float:
        """Times as many images may be looked at as are learned from."""
        return (len(self.places["train"]) + len(self.places["val"])) / len(self.places["train"])

    def all_learned(self) -> Parts:
        """The same with nothing kept back to choose by: train holds val, too."""
        return replace(self, places={**self.places, "train": [*self.places["train"], *self.places["val"]]})

    def folds(self, recipe: Finetune, table: Table | None = None) -> list[Parts]:
        """Train dealt to folds: each in turn is what one network's choices look at while it learns from the others.

        `table` has the records of train in their order, with other strata.
        """
        train = self.places["train"]
        dealt = split.folds(table or self.train.table, recipe.folds, seed=recipe.seed, by_group=recipe.by_group)
        made = []
        for fold in dealt:
            out = set(fold)
            rest = [place for at, place in enumerate(train) if at not in out]
            places = {**self.places, "train": rest, "val": [train[at] for at in fold]}
            made.append(replace(self, places=places))
        return made

    @property
    def fingerprint(self) -> str:
        """One hash of all images, or two with the retained ones."""
        both = [self.ready.table.fingerprint, *([self.retained.fingerprint] if self.retained else [])]
        return " ".join(both)

    def sizes(self) -> dict[str, int]:
        """How many images each part has."""
        return {name: len(places) for name, places in self.places.items()}

    def _part(self, places: Sequence[int]) -> Labelled:
        return Labelled(*self.ready.part(places))
