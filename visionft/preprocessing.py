"""Are images normalised as the weights expect? Batch norms remember what they saw in training: ask them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .backbone import Backbone
from .data.views import Views, batches
from .features import EVALUATION

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
USUAL = {"imagenet": IMAGENET, "half": ((0.5,) * 3, (0.5,) * 3), "none (0 to 1)": ((0.0,) * 3, (1.0,) * 3)}
IMAGES = 32
MARGIN = 0.8  # another normalisation has to fit this much better before anybody is alarmed
FIRST = 4  # batch norms next to the pixels: deeper ones see the subject rather than the normalisation


@torch.no_grad()
def shift(backbone: Backbone, images: Tensor, first: int | None = FIRST) -> float | None:
    """Mean distance of batch means from running means, in running standard deviations, over the first batch norms.

    `images` are uint8 B C H W; `first=None` asks all batch norms, and so how far the subject is from what the weights
    have seen. None when the backbone has no batch norm with statistics.
    """
    seen: list[float] = []

    def note(norm: nn.modules.batchnorm._BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        if norm.running_mean is not None and norm.running_var is not None:
            mean = inputs[0].float().mean((0, 2, 3))
            seen.append(float(((mean - norm.running_mean).abs() / (norm.running_var + norm.eps).sqrt()).mean()))

    norms = [m for m in backbone.net.modules() if isinstance(m, nn.BatchNorm2d)][:first]
    hooks = [m.register_forward_pre_hook(note) for m in norms]
    training = backbone.training
    try:
        backbone.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
        backbone.train(training)
    return sum(seen) / len(seen) if seen else None


def check(backbone: Backbone, pixels: Sequence[np.ndarray], size: int) -> str:
    """One pass for each usual normalisation: a warning when another fits the weights clearly better, else nothing."""
    if backbone.channels != 3 or not backbone.loaded.loaded or not len(pixels):
        return ""
    some = [pixels[i] for i in np.linspace(0, len(pixels) - 1, IMAGES).round().astype(int)]
    images = next(batches(Views(some, EVALUATION, {"image": size}), IMAGES))["image"]
    own = shift(backbone, images)
    if own is None:
        return ""
    kept = backbone.mean.clone(), backbone.std.clone()
    found = {}
    for name, (mean, std) in USUAL.items():
        backbone.mean.copy_(torch.tensor(mean).view(1, 3, 1, 1))
        backbone.std.copy_(torch.tensor(std).view(1, 3, 1, 1))
        found[name] = shift(backbone, images) or 0.0
    backbone.mean.copy_(kept[0])
    backbone.std.copy_(kept[1])
    best = min(found, key=lambda name: found[name])
    if found[best] >= MARGIN * own:
        return ""
    return (
        "WARNING: the weights look as if they were trained with another normalisation: batch statistics are "
        f"{own:.2f} standard deviations off, with '{best}' (mean, std = {USUAL[best]}) only {found[best]:.2f}"
    )
