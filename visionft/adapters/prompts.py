"""Tokens that learn while the network stays: prompts in every block (VPT-deep, arXiv:2203.12119) or prefixes of its
keys and values (arXiv:2101.00190).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .live import Part


class Prompts(Part):
    """`count` tokens that a block attends to and whose answers are dropped behind it."""

    merges, still = False, False

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(count, width))
        nn.init.trunc_normal_(self.tokens, std=0.02)

    def forward(self, module: Any, *given: Any, **more: Any) -> Tensor:
        """B N D -> B N D."""
        x, *others = given
        y = module.own(torch.cat([x, self.tokens.to(x.dtype).expand(len(x), -1, -1)], 1), *others, **more)
        return y[:, : x.shape[1]]  # type: ignore[no-any-return]


class Prefix(Part):
    """`count` keys and values that an attention layer sees before its own."""

    merges, still = False, False

    def __init__(self, heads: int, width: int, count: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.empty(heads, count, width))
        self.values = nn.Parameter(torch.zeros(heads, count, width))
        nn.init.trunc_normal_(self.keys, std=0.02)

    def forward(self, module: Any, *given: Any, **more: Any) -> Tensor:
        """B N D -> B N D."""
        with _Before(self.keys, self.values):
            return module.own(*given, **more)  # type: ignore[no-any-return]


class _Before(TorchFunctionMode):
    """Puts keys and values before those of every attention in a block."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        given: Sequence[Any] = (),
        more: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is F.scaled_dot_product_attention:
            query, key, value, *rest = given
            key, value = (
                torch.cat([mine.to(theirs.dtype).expand(len(theirs), -1, -1, -1), theirs], 2)
                for mine, theirs in ((self.keys, key), (self.values, value))
            )
            given = query, key, value, *rest
        return function(*given, **(more or {}))
