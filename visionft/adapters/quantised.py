"""Frozen weights in 8 or 4 bits: int8 by rows, and NF4, whose levels are quantiles of a normal (arXiv:2305.14314).

Layers are kept in codes and decoded whenever they compute, Linear ones in the backward pass too. State dicts hold
decoded weights under the plain names; coding these again gives the same codes, so a file reloads exactly.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK = 64  # weights that share a scale in NF4
LEVELS = (  # of NF4, from the paper's appendix E
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
Bits = Literal["int8", "nf4"]


def quantise(net: nn.Module, names: Sequence[str], bits: Bits) -> None:
    """Turn the weights of these Linear and Conv2d layers into codes, in place. They stay frozen."""
    for name in names:
        layer: Any = net.get_submodule(name)
        own = layer.weight.detach()
        del layer.weight
        layer.__dict__ |= {"bits": bits, "shape": own.shape}
        kind = type(layer)
        layer.__class__ = _CODED.setdefault(kind, type(kind.__name__, (Quantised, kind), {}))
        layer.write(own)


class Quantised:
    """Mixed into a Linear or a Conv2d: its weight is in codes."""

    bits: Bits
    shape: torch.Size
    codes: Tensor
    scales: Tensor

    def write(self, weight: Tensor) -> None:
        """Keep a weight, as well as the codes can."""
        codes, scales = encode(weight.float().flatten(1), self.bits)
        for name, tensor in (("codes", codes), ("scales", scales)):
            self.register_buffer(name, tensor, persistent=False)  # type: ignore[attr-defined]

    @property
    def weight(self) -> Tensor:
        """Decoded."""
        return decode(self.codes, self.scales, self.shape, self.bits)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer would; a Linear does not keep the decoded weight for the backward pass."""
        if getattr(self, "lent", None) or not isinstance(self, nn.Linear):
            return super().forward(x)  # type: ignore[misc, no-any-return]
        y: Tensor = _Through.apply(x, self)
        bias: Tensor | None = self._parameters.get("bias")
        return y if bias is None else y + bias.to(y.dtype)

    def _save_to_state_dict(self, state: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(state, prefix, keep_vars)  # type: ignore[misc]
        state[f"{prefix}weight"] = Quantised.weight.fget(self)  # type: ignore[attr-defined]

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *others: Any) -> None:
        weight = state.get(f"{prefix}weight")
        rest = {key: value for key, value in state.items() if key != f"{prefix}weight"}
        super()._load_from_state_dict(rest, prefix, *others)  # type: ignore[misc]
        if weight is None:
            others[2].append(f"{prefix}weight")  # the missing keys
        else:
            self.write(weight)


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any) -> Tensor:
        """x W^T in the precision of autocast."""
        kind = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        ctx.layer, ctx.kind, ctx.given = layer, kind, x.dtype
        return F.linear(x.to(kind), Quantised.weight.fget(layer).to(kind))  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Only x has a gradient."""
        weight: Tensor = Quantised.weight.fget(ctx.layer)  # type: ignore[attr-defined]
        return (grads[0].to(ctx.kind) @ weight.to(ctx.kind)).to(ctx.given), None


def encode(weight: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """Out x in -> codes and scales: int8 out x in and one scale a row, or two NF4 codes a byte and one a block."""
    if bits == "int8":
        scales = _scale(weight.abs().amax(1, keepdim=True)) / 127
        return (weight / scales).round().clamp(-127, 127).to(torch.int8), scales
    flat = F.pad(weight.flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK)
    scales = _scale(flat.abs().amax(1, keepdim=True))
    middles = (levels(weight.device)[1:] + levels(weight.device)[:-1]) / 2
    codes = torch.bucketize(flat / scales, middles).to(torch.uint8).view(-1, 2)
    return codes[:, 0] << 4 | codes[:, 1], scales


def decode(codes: Tensor, scales: Tensor, shape: torch.Size, bits: Bits) -> Tensor:
    """What `encode` made, back to this shape."""
    if bits == "int8":
        return (codes * scales).view(shape)
    pairs = torch.stack([codes >> 4, codes & 15], 1).view(-1, BLOCK)
    return (levels(codes.device)[pairs.int()] * scales).flatten()[: shape.numel()].view(shape)


@functools.cache
def levels(device: torch.device) -> Tensor:
    """The 16 values of NF4."""
    return torch.tensor(LEVELS, device=device)


def _scale(largest: Tensor) -> Tensor:
    return torch.where(largest > 0, largest, 1.0)


_CODED: dict[type, type] = {}  # of the class that a layer had
