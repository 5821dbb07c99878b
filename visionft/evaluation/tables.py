"""Tables of attention, kept while a network runs: torch's fused kernel, which never forms them, is done by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Tables(TorchFunctionMode):
    """`seen` holds B H N K of every attention that ran in this block, in order; gradients flow through them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        given: Sequence[Any] = (),
        more: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is not F.scaled_dot_product_attention:
            return function(*given, **(more or {}))
        return self._by_hand(*given, **(more or {}))

    def _by_hand(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **more: Any
    ) -> Tensor:
        scale = more.get("scale") or query.shape[-1] ** -0.5
        scores = query * scale @ key.mT
        if attn_mask is not None:
            scores = scores + attn_mask if attn_mask.is_floating_point() else scores.where(attn_mask, -float("inf"))
        self.seen.append(scores.softmax(-1))
        return self.seen[-1] @ value
