"""A finished run as something that answers: images in; labels, probabilities and doubts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionft import runs
from visionft.data.records import Table
from visionft.errors import CheckpointError, DataError
from visionft.evaluation.classification import summarise
from visionft.evaluation.decision import Decision

from .networks import Networks, Progress, network


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image."""

    image: str
    label: str
    probability: float  # of the label
    probabilities: dict[str, float]
    unsure: bool = False  # whether more than one class, or none, is plausible at the promised coverage: ask a human
    plausible: tuple[str, ...] = ()  # the classes that hold the truth as often as promised; empty without a promise

    def cells(self) -> dict[str, str]:
        """A row of a CSV: header -> text."""
        first = {"image": self.image, "label": self.label, "probability": f"{self.probability:.6f}"}
        first |= {"unsure": str(int(self.unsure)), "plausible": " ".join(self.plausible)}
        return first | {f"probability of {n}" if n in first else n: f"{p:.6f}" for n, p in self.probabilities.items()}

    def __str__(self) -> str:
        doubt = f"\tunsure: {' or '.join(self.plausible) or 'no class is likely enough'}" if self.unsure else ""
        return f"{self.image}\t{self.label}\t{self.probability:.3f}{doubt}"


class Predictor(Networks):
    """Fine-tuned networks, usually one, with the classes, the preprocessing and the decision of their run."""

    labelled = True

    def __init__(
        self, networks: Sequence[Any], classes: Sequence[str], images: dict[str, int], decision: Decision | None = None
    ) -> None:
        super().__init__(networks, len(classes), images)
        self.classes = tuple(classes)
        self.decision = decision or Decision.plain(len(classes))

    @classmethod
    def load(cls, run: str | Path) -> Predictor:
        """Read a finished fine-tuning run. Raises CheckpointError when it is none."""
        folder = Path(run)
        info = runs.info(folder)
        if "task" not in info:
            raise CheckpointError(f"{run} is a {info.get('verb')} run without a task; finetune from it: backbone={run}")
        if "classes" not in info:
            raise CheckpointError(f"{run} has learnt columns of a table, not one label; ask it by visionft.load")
        places = [folder / name for name in info.get("networks", ["."])]
        decision = Decision.of(info["decision"]) if "decision" in info else None
        return cls([network(place) for place in places], info["classes"], info["images"], decision).finish()

    def predict(self, images: Any, *, batch: int = 64, progress: Progress | None = None) -> list[Prediction]:
        """Classify a file, an array (H W or H W C, uint8 RGB), a list of these, or a folder.

        Raises DataError naming every file that cannot be read.
        """
        names, pixels = self.open(images)
        return self._answers(names, self.probabilities(pixels, batch=batch, progress=progress))

    def probabilities(
        self, pixels: Sequence[np.ndarray], *, batch: int = 64, quick: bool = False, progress: Progress | None = None
    ) -> Tensor:
        """Calibrated probabilities of decoded images, N C: the mean over networks, then the run's temperature.

        `quick` asks once where the run asks of mirrored images, too.
        """
        mean = self.ask(pixels, batch=batch, quick=quick, progress=progress)
        return torch.from_numpy(self.decision.calibrated(mean.numpy())).float()

    def evaluate(self, table: Table, *, batch: int = 64, progress: Progress | None = None) -> dict[str, float]:
        """Every metric of the likeliest class on labelled images, and as `decided_...` of the answers of `predict`.

        Raises DataError for classes it does not know.
        """
        unknown = sorted({table.classes[i] for i in set(table.labels.tolist())} - set(self.classes))
        if unknown:
            raise DataError(f"the run knows {', '.join(self.classes)}; the data has {', '.join(unknown)} too")
        labels = torch.tensor([self.classes.index(table.classes[i]) for i in table.labels])
        groups = table.groups if table.grouped else None
        said = self.probabilities(self.decode(table), batch=batch, progress=progress)
        decided = self.decision.judge(said.double().numpy(), labels.numpy())
        found = summarise(said, labels, classes=self.classes, groups=groups)
        return found | {f"decided_{name}": value for name, value in decided.items()}

    def _answers(self, names: Sequence[str], p: Tensor) -> list[Prediction]:
        rows = p.double().numpy()
        chosen, sets = self.decision.choose(rows), self.decision.sets
        plausible = sets.sets(rows) if sets else np.zeros(rows.shape, bool)
        unsure = sets.unsure(rows) if sets else np.zeros(len(rows), bool)
        return [
            Prediction(
                name,
                self.classes[best],
                float(row[best]),
                {label: float(v) for label, v in zip(self.classes, row, strict=True)},
                bool(doubt),
                tuple(label for label, held in zip(self.classes, among, strict=True) if held),
            )
            for name, best, row, doubt, among in zip(names, chosen, rows, unsure, plausible, strict=True)
        ]
