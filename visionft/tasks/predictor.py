"""A finished run as something that answers: images in; labels, probabilities and doubts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from visionft import backbones, objective, runs
from visionft import weights as weights_
from visionft.data.cache import cached
from visionft.data.prepare import KEPT
from visionft.data.records import Table
from visionft.data.sources import read
from visionft.data.views import Views, batches
from visionft.errors import CheckpointError
from visionft.evaluation.decision import Decision
from visionft.features import EVALUATION, answering
from visionft.objective import Objective

Sides = Sequence[tuple[int, ...]]
PLAIN: Sides = ((),)
MIRRORED: Sides = ((), (-1,), (-2,), (-1, -2))  # axes along which an image is mirrored


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
        return first | {f"probability of {n}" if n in first else n: f"{p:.6f}" for n, p in self.probabilities.items()}

    def __str__(self) -> str:
        return f"{self.image}\t{self.label}\t{self.probability:.3f}"


class Predictor:
    """Fine-tuned networks, usually one, with the classes, the preprocessing and the decision of their run."""

    def __init__(
        self, networks: Sequence[Any], classes: Sequence[str], images: dict[str, int], decision: Decision | None = None
    ) -> None:
        self.networks = [network.eval() for network in networks]
        self.classes, self.images = tuple(classes), images
        self.decision = decision or Decision.plain(len(classes))

    @property
    def model(self) -> Any:
        """The network, or the first of several."""
        return self.networks[0]

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
        return cls([network(place) for place in places], info["classes"], info["images"], decision)

    def predict(self, images: Any, *, batch: int = 64) -> list[Prediction]:
        """Classify a file, an array (H W or H W C, uint8 RGB), a list of these, or a folder.

        Raises DataError naming every file that cannot be read.
        """
        single = isinstance(images, (str, Path)) and Path(images).is_file()
        table = read([images] if single or isinstance(images, np.ndarray) else images, labelled=False)
        pixels = self.decode(table)
        return self._answers([record.name for record in table], self.probabilities(pixels, batch=batch))

    def decode(self, table: Table) -> Sequence[np.ndarray]:
        """Read images as they were read for training; one at a time, as they are needed."""
        edge, channels, white = (self.images[key] for key in ("size", "channels", "white"))
        return cached(table, edge=round(edge * KEPT), channels=channels, white=white, store="off")

    def probabilities(self, pixels: Sequence[np.ndarray], *, batch: int = 64, quick: bool = False) -> Tensor:
        """Calibrated probabilities of decoded images, N C: the mean over networks, then the run's temperature.

        `quick` asks once where the run asks of mirrored images, too.
        """
        sides = PLAIN if quick or not self.images.get("flips") else MIRRORED
        said = [self._said(network, pixels, batch, sides) for network in self.networks]
        mean = torch.stack(said).mean(0)
        return torch.from_numpy(self.decision.calibrated(mean.numpy())).float()

    @torch.no_grad()
    def _said(self, network: Any, pixels: Sequence[np.ndarray], batch: int, sides: Sides) -> Tensor:
        """Mean of what a network says of each image, mirrored along these axes; N C."""
        data = Views(pixels, EVALUATION, {"image": self.images["size"]}, channels=self.images["channels"])
        device, rows = next(network.parameters()).device, []
        with answering(network.backbone):
            for part in batches(data, batch):
                images = part["image"].to(device)
                said = [network.predict(images.flip(side) if side else images).float().cpu() for side in sides]
                rows.append(torch.stack(said).mean(0))
        return torch.cat(rows) if rows else torch.zeros(0, len(self.classes))

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


def network(folder: Path) -> Any:
    """The task of a finished run of one network, with its weights."""
    return assemble(runs.info(folder), load_file(folder / "model.safetensors"), f"run {folder}")


def assemble(info: Mapping[str, Any], state: Mapping[str, Tensor], origin: str) -> Any:
    """The task that a run.json describes, with these weights. Raises CheckpointError when they do not fit."""
    found, options = objective.find(info["task"])
    model: Objective = found(backbones.build(info["backbone"]), **options)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        what = " ".join(str(error).split()[:40])
        raise CheckpointError(f"model.safetensors of {origin} does not fit its run.json: {what} ...") from error
    model.backbone.loaded = weights_.Loaded(origin, tuple(state))
    return model
