"""A copy of a backbone that only answers: what can be worked out before the first photo, is."""

from __future__ import annotations

import copy

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn

from .backbone import Backbone
from .folding import foldable_in, folded
from .precision import exactly, native_bf16

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
    _fold(made)
    if native_bf16(made.mean.device):
        for module in made.net.modules():
            if type(module) in PRODUCTS:
                module.bfloat16()  # autocast would, at every call
    return made


class Quick:
    """A backbone that changes no more, or the copy of it that answers, which is made when it is first asked for."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone, self.made = backbone, backbone

    def __call__(self) -> Backbone:
        """Whichever says within `precision.inference` what the backbone does, where the backbone is by now."""
        if exactly():
            return self.backbone
        if self.made is self.backbone or self.made.mean.device != self.backbone.mean.device:
            self.made = still(self.backbone)
        return self.made


def _fold(made: Backbone) -> None:
    owners = {module.weight: module for module in made.net.modules() if type(module) in CONVOLUTIONS}
    gone: dict[nn.Module, nn.Module] = {}
    for weight, norm in foldable_in(made).items():
        if (convolution := owners.get(weight)) is None or (left := _left(norm)) is None:
            continue
        filters, bias = folded(weight, convolution.bias, norm)
        weight.copy_(filters)
        convolution.bias = nn.Parameter(bias, requires_grad=False)
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
