"""The networks of a finished run, read from its folder and asked about images as they saw them in training."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from visionft import backbones, objective, runs
from visionft import weights as weights_
from visionft.data.cache import cached
from visionft.data.records import Table
from visionft.data.sources import read
from visionft.data.views import Views, batches
from visionft.errors import CheckpointError
from visionft.features import EVALUATION, answering
from visionft.objective import Objective
from visionft.recipe import KEPT
from visionft.still import Quick

Sides = Sequence[tuple[int, ...]]
Progress = Callable[[int, int], None]  # done, of how many
PLAIN: Sides = ((),)
MIRRORED: Sides = ((), (-1,), (-2,), (-1, -2))  # axes along which an image is mirrored


class Networks:
    """One network or several of a run, with the preprocessing of their images.

    `width` is how many numbers they answer an image with; `labelled` is whether one label an image says what is right.
    """

    labelled: bool

    def __init__(self, networks: Sequence[Any], width: int, images: dict[str, int]) -> None:
        self.networks = [network.eval() for network in networks]
        self.width, self.images = width, images
        self.quick: list[Quick] = []

    def finish(self) -> Self:
        """Promise that nobody trains the backbones any more, as of a run that was read from its folder."""
        self.quick = [Quick(network.backbone) for network in self.networks]
        return self

    @property
    def model(self) -> Any:
        """The network, or the first of several."""
        return self.networks[0]

    def open(self, images: Any) -> tuple[list[str], Sequence[np.ndarray]]:
        """Names and pixels of whatever names images, a single array too. Raises DataError for what cannot be read."""
        table = read([images] if isinstance(images, np.ndarray) and images.ndim < 4 else images, labelled=False)
        return [record.name for record in table], self.decode(table)

    def decode(self, table: Table) -> Sequence[np.ndarray]:
        """Read images as they were read for training; one at a time, as they are needed."""
        edge, channels, white = (self.images[key] for key in ("size", "channels", "white"))
        return cached(table, edge=round(edge * KEPT), channels=channels, white=white, store="off")

    def ask(
        self, pixels: Sequence[np.ndarray], *, batch: int = 64, quick: bool = False, progress: Progress | None = None
    ) -> Tensor:
        """N A: the mean of what the networks say of decoded images.

        `quick` asks once where the run asks of mirrored images, too. `progress` hears of (done, of how many).
        """
        sides, whole = PLAIN if quick or not self.images.get("flips") else MIRRORED, len(pixels) * len(self.networks)

        def hear(at: int, done: int) -> None:
            if progress is not None:
                progress(at * len(pixels) + done, whole)

        said = [
            self._said(self._answering(at), pixels, batch, sides, functools.partial(hear, at))
            for at in range(len(self.networks))
        ]
        return torch.stack(said).mean(0)

    def _answering(self, at: int) -> Any:
        """The network, or one that shares all with it but the backbone."""
        network = self.networks[at]
        if not self.quick:
            return network
        made = copy.copy(network)
        made._modules = {**network._modules, "backbone": self.quick[at]()}
        return made

    @torch.no_grad()
    def _said(
        self, network: Any, pixels: Sequence[np.ndarray], batch: int, sides: Sides, hear: Callable[[int], None]
    ) -> Tensor:
        """Mean of what a network says of each image, mirrored along these axes; N A."""
        data = Views(pixels, EVALUATION, {"image": self.images["size"]}, channels=self.images["channels"])
        device, rows = next(network.parameters()).device, []
        with answering(network.backbone):
            for part in batches(data, batch):
                images = part["image"].to(device)
                said = [network.predict(images.flip(side) if side else images).float().cpu() for side in sides]
                rows.append(torch.stack(said).mean(0))
                hear(sum(map(len, rows)))
        return torch.cat(rows) if rows else torch.zeros(0, self.width)


def network(folder: Path) -> Any:
    """The task of a finished run of one network, with its weights."""
    return assemble(runs.info(folder), load_file(folder / "model.safetensors"), f"run {folder}")


def assemble(info: Mapping[str, Any], state: Mapping[str, Tensor], origin: str) -> Any:
    """The task that a run.json describes, with these weights. Raises CheckpointError when they do not fit."""
    found, options = objective.find(info["task"], "task")
    model: Objective = found(backbones.build(info["backbone"]), **options)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        what = " ".join(str(error).split()[:40])
        raise CheckpointError(f"model.safetensors of {origin} does not fit its run.json: {what} ...") from error
    model.backbone.loaded = weights_.Loaded(origin, tuple(state))
    return model
