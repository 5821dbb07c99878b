"""What a model is trained for: pretraining, fine-tuning, CLIP and language modelling differ only here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from . import config, plugins
from .data.records import Table
from .errors import ConfigError

OBJECTIVES = {
    "simclr": "visionft.pretraining.simclr:SimCLR",
    "mocov3": "visionft.pretraining.mocov3:MoCoV3",
    "byol": "visionft.pretraining.byol:BYOL",
    "simsiam": "visionft.pretraining.simsiam:SimSiam",
    "swav": "visionft.pretraining.swav:SwAV",
    "vicreg": "visionft.pretraining.vicreg:VICReg",
    "barlow": "visionft.pretraining.barlow:BarlowTwins",
    "densecl": "visionft.pretraining.densecl:DenseCL",
    "lejepa": "visionft.pretraining.lejepa:LeJEPA",
    "dino": "visionft.pretraining.dino:DINO",
    "dinov2": "visionft.pretraining.dinov2:DINOv2",
    "mae": "visionft.pretraining.mae:MAE",
    "simmim": "visionft.pretraining.simmim:SimMIM",
    "ijepa": "visionft.pretraining.ijepa:IJEPA",
    "distill": "visionft.pretraining.distill:Distill",
    "classify": "visionft.tasks.classify:Classify",
    "heads": "visionft.tasks.heads:Heads",
}


@dataclass(frozen=True)
class View:
    """One entry of a batch: `count` augmented images of each record (None: a single one, without the V axis)."""

    policy: Any = "ssl"  # a name of the table of policies, or an albumentations Compose
    count: int | None = None
    share: float = 1.0  # side of the image relative to the recipe's size
    scale: tuple[float, float] | None = None  # area of the random crop; None leaves the policy's own

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ConfigError(f"a view of count={self.count} images makes no sense; leave it out of the objective")


class Objective(nn.Module):
    """A batch in, losses out.

    Subclasses hold whatever they train (`self.backbone`, heads) and whatever they only consult (a teacher, a queue:
    parameters with `requires_grad=False`). The loop knows nothing else about them.
    """

    backbone: Any
    sees: ClassVar[Mapping[str, View]] = {"image": View()}
    collapses: ClassVar[bool] = True  # a constant output would please the loss: a fallen rank must stop the run
    divides: ClassVar[bool] = False  # its loss is a mean over images, and a forward pass leaves no trace in it
    gentle: ClassVar[float] = 3e-4  # peak learning rate of layers that came with weights, where the recipe names none
    takes: ClassVar[str] = "any timm model"  # for `visionft objectives`: which backbones, and what it is good for
    good_for: ClassVar[str] = ""
    remedy: ClassVar[str] = ""  # against a collapse, beside a lower rate
    note: str = ""  # what the user should know of this very objective; said once, before anything is computed

    def columns(self, pixels: Sequence[np.ndarray], table: Table, size: int, **how: Any) -> dict[str, Tensor]:
        """What the loss wants to know of each training image besides its pixels, N rows each, computed once.

        It arrives in the batch under these names. `how` is for `visionft.features.features`: whether to store what
        was computed, and whom to tell how far it is.
        """
        return {}

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return named scalars; `loss` is the one that is minimised, the others are logged.

        Images are uint8 `B C H W` (or `B V C H W`), as the data delivers them: the backbone normalises.
        `batch["draw"]` holds one int64 per image, a function of (seed, epoch, index): see `noise`.
        """
        raise NotImplementedError

    def project(self, features: Tensor) -> Tensor:
        """What the loss compares, B D -> B P: a collapse shows there first. Without a head, the features."""
        return features

    def pictures(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the report should show beside some images: name -> B C H W, normalised as the backbone sees them.

        The batch holds `image`, B C H W, and `draw`.
        """
        return {}

    def after_step(self, progress: float) -> None:
        """Hear once per optimizer step how much of the run is done, in (0, 1]: move a teacher, warm a temperature."""


def exactly(tensor: Tensor) -> torch.autocast:
    """Switch autocast off for a block: losses with temperatures or covariances need all their digits."""
    return torch.autocast(tensor.device.type, enabled=False)


def noise(draw: Tensor, n: int) -> Tensor:
    """Uniform numbers in [0, 1), `B -> B n`, that depend on each image's own draw and on nothing else.

    So an image is masked alike in any batch, part of a batch, or process (splitmix64's finaliser over a counter).
    """
    x = draw[:, None] + torch.arange(1, n + 1, device=draw.device) * -7046029254386353131
    x = (x ^ (x >> 30 & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ (x >> 27 & 0x1FFFFFFFFF)) * -7723592293110705685
    return ((x ^ (x >> 31 & 0x1FFFFFFFF)) >> 40 & 0xFFFFFF).to(torch.float32) / 2**24


def find(choice: Any, where: str = "objective") -> tuple[type[Objective], dict[str, Any]]:
    """Resolve a recipe's `objective` or `task`: a name, an import path `module:Class`, a class, or one with options.

    Raises ConfigError for an unknown name or option of that key, `where`, with the nearest valid one.
    """
    name, options = config.named(choice, where)
    cls: type[Any] = plugins.resolve(name, OBJECTIVES, "objective")
    return cls, config.bind(cls, options, where)


def options(cls: type[Any]) -> dict[str, tuple[str, str]]:
    """Each option's default and meaning, as signature and docstring say them."""
    told, found = meanings(cls), config.options(cls).items()
    return {name: (_shown(p), told.get(name, "")) for name, p in found}


def meanings(cls: type[Any]) -> dict[str, str]:
    """What a class's docstring says of names, `name: meaning`; lines that go on are indented further."""
    doc = re.sub(r"\n {4,}(?=\S)", " ", inspect.getdoc(cls) or "")
    return dict(line.split(": ", 1) for line in doc.splitlines() if ": " in line)


def _shown(option: inspect.Parameter) -> str:
    if option.default is option.empty:
        return "(filled in)"
    return "null" if option.default is None else str(option.default)


def registered() -> dict[str, str]:
    """Every name with its import path: our own, then those of installed packages (entry points)."""
    return plugins.known(OBJECTIVES, "objective")
