"""Progressive resizing: most is learnt from small images, which are cheap; the end of the run sees all pixels.

Used by fast.ai's DAWNBench entries and EfficientNetV2 (arXiv:2104.00298), here in three sizes, because on a CPU the
first steps of every new shape compile kernels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import ConfigError, first_line
from .objective import Objective

STAGES = 3


def share_at(progress: float, start: float) -> float:
    """Share of the full side at a progress in [0, 1]: `start`, half-way between, all, a third of the run each."""
    stage = min(STAGES - 1, int(progress * STAGES + 1e-9))
    return start + (1 - start) * stage / (STAGES - 1)


def cost(start: float) -> float:
    """Arithmetic of a run relative to one at full size throughout, where it grows with the area."""
    return sum(share_at(stage / STAGES, start) ** 2 for stage in range(STAGES)) / STAGES


def shrunk(batch: Mapping[str, Tensor], share: float, side: Callable[[float], int]) -> dict[str, Tensor]:
    """Resize the images of a batch, uint8 ... C H W, to `side(share * H)`, antialiased; all else passes."""
    return {key: _resized(x, share, side) if _is_image(x) else x for key, x in batch.items()}


def rehearse(objective: Objective, batch: Mapping[str, Tensor], start: float) -> None:
    """See that an objective takes the small images that a run begins with; ConfigError if it takes one size only."""
    try:
        with torch.no_grad():
            loss = copy.deepcopy(objective).eval()(shrunk(batch, start, objective.backbone.side))["loss"]
        if not loss.isfinite():
            raise ValueError("its loss is not finite")
    except Exception as error:  # whatever a model trips over
        why = f"{type(objective).__name__} on {objective.backbone.name} takes images of one size: {first_line(error)}"
        raise ConfigError(f"grow={start:g} is not possible: {why}; leave grow=1") from error


def _is_image(x: Tensor) -> bool:
    return x.dtype == torch.uint8 and x.ndim >= 4


def _resized(x: Tensor, share: float, side: Callable[[float], int]) -> Tensor:
    flat = x.flatten(0, -4).float()  # N C H W
    size = [min(full, side(share * full)) for full in x.shape[-2:]]
    small = F.interpolate(flat, size, mode="bilinear", antialias=True).round_().clamp_(0, 255).to(torch.uint8)
    return torch.unflatten(small, 0, x.shape[:-3])
