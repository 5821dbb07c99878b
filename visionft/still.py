"""A copy of a backbone that only answers: what can be worked out before the first photo, is."""

from __future__ import annotations

import copy

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn

from .backbone import Backbone
from .folding import Norm, foldable, scale_and_shift
from .kernels import FOLDED_AT
from .precision import native_bf16

CONVOLUTIONS = (nn.Conv2d, Conv2dSame)  # which convolve with their weights as they are; no class derived from them
PRODUCTS = (nn.Linear, *CONVOLUTIONS)


@torch.no_grad()
def still(backbone: Backbone) -> Backbone:
    """One that says the same to the bit within `precision.inference`, sooner, as long as the backbone stays as it is.

    Batch norms are part of the convolutions before them, and filters are in the arithmetic of inference: a photo alone
    takes three quarters of the time (efficientnet_lite0, 224 px, one core), as each call would do both again. One with
    an adapter is itself.
    """
    if backbone.adapter is not None:
        return backbone  # its parts hold on to the network that they were made for
    made = copy.deepcopy(backbone).eval().requires_grad_(False)
    if any(isinstance(module, Norm) for module in made.net.modules()):
        _fold(made)
    if native_bf16(made.mean.device):
        for module in made.net.modules():
            if type(module) in PRODUCTS:
                module.bfloat16()  # autocast would, at every call
    return made


def _fold(made: Backbone) -> None:
    side = made.side(made.size or FOLDED_AT)
    image = torch.zeros(1, made.channels, side, side, device=made.mean.device)
    owners = {module.weight: module for module in made.net.modules() if type(module) in CONVOLUTIONS}
    gone: dict[nn.Module, nn.Module] = {}
    for weight, norm in foldable(made.net, image).items():
        if (convolution := owners.get(weight)) is None or (left := _left(norm)) is None:
            continue
        scale, shift = scale_and_shift(norm)
        bias = convolution.bias
        weight.mul_(scale[:, None, None, None])
        convolution.bias = nn.Parameter(shift if bias is None else bias * scale + shift, requires_grad=False)
        gone[norm] = left
    for parent in list(made.net.modules()):
        for name, child in list(parent.named_children()):
            if child in gone:
                setattr(parent, name, gone[child])


def _left(norm: nn.Module) -> nn.Module | None:
    """What a norm does besides; None where that is not known."""
    if type(norm) is BatchNormAct2d:
        drop, act = norm.drop, norm.act
        assert isinstance(drop, nn.Module) and isinstance(act, nn.Module)
        return nn.Sequential(drop, act)
    return nn.Identity() if type(norm) is nn.BatchNorm2d else None
