"""Modules that compute through an adapter's part while their own parameters, and the names of these, stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class Part(nn.Module):
    """What an adapter adds to one module. `weight` and `bias` say what a plain layer would need to do the same."""

    merges = True  # whether they can say so
    still = True  # whether a part that has not learnt changes nothing

    def weight(self, own: Tensor) -> Tensor:
        """The layer's weight with this part in it."""
        return own

    def bias(self, own: Tensor | None) -> Tensor | None:
        """The layer's bias with this part in it."""
        return own

    def forward(self, module: Any, *given: Any, **more: Any) -> Tensor:
        """What the module gives with this part at work; `module.own(...)` is what it gives by itself."""
        raise NotImplementedError


class Live:
    """Mixed into a module's class: it answers through its part."""

    part: Part

    def own(self, *given: Any, **more: Any) -> Tensor:
        """What the module gives without its part."""
        return super().forward(*given, **more)  # type: ignore[misc, no-any-return]

    def forward(self, *given: Any, **more: Any) -> Tensor:
        """What the module gives with its part."""
        return self.part(self, *given, **more)  # type: ignore[no-any-return]


class LiveLayer(Live):
    """The same for a layer with a weight: `weight` and `bias` are those of the whole.

    So networks that call the layer and those that read its weight (BEiT, EVA, Swin V2) get the same.
    """

    lent: tuple[Tensor, Tensor | None] | None

    @property
    def weight(self) -> Tensor:
        """As a plain layer would have it."""
        return self.lent[0] if self.lent else self.part.weight(self.own_weight)

    @property
    def bias(self) -> Tensor | None:
        """As a plain layer would have it."""
        return self.lent[1] if self.lent else self.part.bias(self.own_bias)

    @property
    def own_weight(self) -> Tensor:
        """Without the part."""
        found: Tensor | None = self._parameters.get("weight")  # type: ignore[attr-defined]
        return super().weight if found is None else found  # type: ignore[misc]

    @property
    def own_bias(self) -> Tensor | None:
        """Without the part."""
        return self._parameters.get("bias")  # type: ignore[attr-defined, no-any-return]

    def own(self, *given: Any, **more: Any) -> Tensor:
        """What the layer gives without its part."""
        coded = self._parameters.get("weight") is None  # type: ignore[attr-defined]
        if coded and isinstance(self, nn.Linear):  # it decodes by itself, and keeps nothing for the backward pass
            return super().own(*given, **more)
        return self.own_with(self.own_weight, self.own_bias, *given, **more)

    def own_with(self, weight: Tensor, bias: Tensor | None, *given: Any, **more: Any) -> Tensor:
        """What the layer would give with other weights: its stride, padding and groups apply, whatever its class."""
        with lend(self, weight, bias):
            return super().own(*given, **more)


def enliven(module: nn.Module, part: Part) -> None:
    """Let a module compute through a part, which is not registered in it: the module's state dict stays as it was."""
    weighs = "weight" in module._parameters or hasattr(type(module), "weight")  # some keep it in codes
    module.__dict__ |= {"part": part, "lent": None}
    kind = type(module)
    if kind not in _LIVING:
        _LIVING[kind] = type(kind.__name__, (LiveLayer if weighs else Live, kind), {})
    module.__class__ = _LIVING[kind]


_LIVING: dict[type, type] = {}  # of the class that a module had


@contextmanager
def lend(layer: Any, weight: Tensor, bias: Tensor | None) -> Iterator[None]:
    """Let a live layer have these weights for a block."""
    layer.lent = weight, bias
    try:
        yield
    finally:
        layer.lent = None
