"""A finished run as something that answers: images in, labels and probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
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
    probability: float
    probabilities: dict[str, float]


class Predictor:
    """A fine-tuned model with the classes and the preprocessing it was trained with."""

    def __init__(self, model: Any, classes: Sequence[str], images: dict[str, int]) -> None:
        self.model, self.classes, self.images = model.eval(), tuple(classes), images

    @classmethod
    def load(cls, run: str | Path) -> Predictor:
        """Read a finished fine-tuning run. Raises CheckpointError when it is none."""
        folder = Path(run)
        info = runs.info(folder)
        if "task" not in info:
            raise CheckpointError(f"{run} is a {info.get('verb')} run without a task; finetune from it: backbone={run}")
        found, options = objective.find(info["task"])
        model: Objective = found(backbones.build(info["backbone"]), **options)
        state = load_file(folder / "model.safetensors")
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(f"{folder / 'model.safetensors'} does not fit its run.json: {error}") from error
        model.backbone.loaded = weights_.Loaded(f"run {run}", tuple(state))
        return cls(model, info["classes"], info["images"])

    def predict(self, images: Any, *, batch: int = 64) -> list[Prediction]:
        """Classify a file, an array (H W or H W C, uint8 RGB), a list of these, or a folder.

        Raises DataError naming every file that cannot be read.
        """
        single = isinstance(images, (str, Path)) and Path(images).is_file()
        table = read([images] if single or isinstance(images, np.ndarray) else images, labelled=False)
        pixels = self.decode(table)
        rows = self.probabilities(pixels, batch=batch)
        return [self._said(record.name, row) for record, row in zip(table, rows, strict=True)]

    def decode(self, table: Table) -> Sequence[np.ndarray]:
        """Read images as they were read for training; one at a time, as they are needed."""
        edge, channels, white = (self.images[key] for key in ("size", "channels", "white"))
        return cached(table, edge=round(edge * KEPT), channels=channels, white=white, store="off")

    @torch.no_grad()
    def probabilities(self, pixels: Sequence[np.ndarray], *, batch: int = 64, quick: bool = False) -> Tensor:
        """Probabilities of decoded images, N C; `quick` asks once where the run asks of mirrored images, too."""
        data = Views(pixels, EVALUATION, {"image": self.images["size"]}, channels=self.images["channels"])
        device = next(self.model.parameters()).device
        with answering(self.model.backbone):
            sides = PLAIN if quick or not self.images.get("flips") else MIRRORED
            return torch.cat([self._answer(part["image"].to(device), sides) for part in batches(data, batch)])

    def _answer(self, images: Tensor, sides: Sides) -> Tensor:
        """Mean of what is said of each image, mirrored along these axes; B C."""
        said = [self.model.predict(images.flip(side) if side else images).float().cpu() for side in sides]
        return torch.stack(said).mean(0)

    def _said(self, name: str, row: Tensor) -> Prediction:
        best = int(row.argmax())
        every = {label: float(p) for label, p in zip(self.classes, row, strict=True)}
        return Prediction(name, self.classes[best], float(row[best]), every)
