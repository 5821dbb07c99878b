"""A finished run of several heads as something that answers: images in, a value for every column out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visionft import runs
from visionft.arrays import Floats
from visionft.data.records import Table
from visionft.data.targets import Target, encode, of
from visionft.tasks.networks import Networks, Progress, network

from . import rules as rules_
from .answers import Answers, answered
from .floor import in_units
from .judge import Metrics, judge
from .rules import Rule

HEADS = "heads"  # the task's name


class HeadsPredictor(Networks):
    """Fine-tuned networks, usually one, with their targets, their preprocessing and their rules."""

    labelled = False

    def __init__(
        self, networks: Sequence[Any], targets: Sequence[Target], images: dict[str, int],
        rules: Mapping[str, Rule] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(networks, sum(target.answers for target in targets), images)
        self.targets = tuple(targets)
        self.rules = dict(rules or {target.column: rules_.plain(target) for target in targets})

    @classmethod
    def load(cls, run: str | Path) -> HeadsPredictor:
        """Read a finished run of several heads. Raises CheckpointError when it is none."""
        folder, info = Path(run), runs.info(Path(run))
        targets = [of(facts) for facts in info["task"]["targets"]]
        networks = [network(folder / name) for name in info.get("networks", ["."])]
        rules = rules_.read(targets, info["rules"]) if "rules" in info else None  # one network of several has none
        return cls(networks, targets, info["images"], rules).finish()

    def predict(self, images: Any, *, batch: int = 64, progress: Progress | None = None) -> list[Answers]:
        """Answer a file, an array (H W or H W C, uint8 RGB), a list of these, or a folder.

        Raises DataError naming every file that cannot be read.
        """
        names, pixels = self.open(images)
        return answered(names, self.targets, self.numbers(pixels, batch=batch, progress=progress), self.rules)

    def numbers(
        self, pixels: Sequence[np.ndarray], *, batch: int = 64, quick: bool = False, progress: Progress | None = None
    ) -> Floats:
        """N A of decoded images, the columns side by side: probabilities, and numbers in the unit of their column."""
        return in_units(self.targets, self.ask(pixels, batch=batch, quick=quick, progress=progress))

    def evaluate(self, table: Table, *, batch: int = 64, progress: Progress | None = None) -> Metrics:
        """Every metric on images that a table knows the columns of. Raises DataError where it does not."""
        said = self.numbers(self.decode(table), batch=batch, progress=progress)
        groups = table.groups if table.grouped else None
        return judge(self.targets, said, encode(self.targets, table), self.rules, groups=groups)
