"""A finished run of several heads as something that answers: images in, a value for every column out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visionft import runs
from visionft.arrays import Floats
from visionft.data.records import Table
from visionft.data.sources import read
from visionft.data.targets import Target, encode, of
from visionft.tasks.predictor import Predictor, network

from . import rules as rules_
from .answers import Answers, answered
from .floor import in_units
from .judge import Metrics, judge
from .rules import Rule

HEADS = "heads"  # the task's name
LISTS = (".csv", ".tsv", ".txt")


class HeadsPredictor:
    """A fine-tuned network with its targets, its preprocessing and its rules."""

    def __init__(
        self, model: Any, targets: Sequence[Target], images: dict[str, int], rules: Mapping[str, Rule] | None = None
    ) -> None:
        self.targets, self.images = tuple(targets), images
        self.rules = dict(rules or {target.column: rules_.plain(target) for target in targets})
        self._says = Predictor([model], [""] * sum(target.answers for target in targets), images)

    @property
    def model(self) -> Any:
        """The network."""
        return self._says.model

    @classmethod
    def load(cls, run: str | Path) -> HeadsPredictor:
        """Read a finished run of several heads. Raises CheckpointError when it is none."""
        info, model = runs.info(Path(run)), network(Path(run))
        targets = [of(facts) for facts in info["task"]["targets"]]
        return cls(model, targets, info["images"], rules_.read(targets, info["rules"]))

    def predict(self, images: Any, *, batch: int = 64) -> list[Answers]:
        """Answer a file, an array (H W or H W C, uint8 RGB), a list of these, or a folder.

        Raises DataError naming every file that cannot be read.
        """
        single = isinstance(images, (str, Path)) and Path(images).is_file() and Path(images).suffix.lower() not in LISTS
        table = read([images] if single or isinstance(images, np.ndarray) else images, labelled=False)
        said = self.numbers(self._says.decode(table), batch=batch)
        return answered([record.name for record in table], self.targets, said, self.rules)

    def numbers(self, pixels: Sequence[np.ndarray], *, batch: int = 64, quick: bool = False) -> Floats:
        """N A of decoded images, the columns side by side: probabilities, and numbers in the unit of their column."""
        if not len(pixels):
            return np.zeros((0, sum(target.answers for target in self.targets)))
        return in_units(self.targets, torch.as_tensor(self._says.probabilities(pixels, batch=batch, quick=quick)))

    def evaluate(self, table: Table, *, batch: int = 64) -> Metrics:
        """Every metric on images that a table knows the columns of. Raises DataError where it does not."""
        return judge(
            self.targets, self.numbers(self._says.decode(table), batch=batch), encode(self.targets, table), self.rules
        )
