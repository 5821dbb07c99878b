"""Attention over few tokens, as two matrix products and a softmax, which train faster on a CPU than torch's kernel.

torch's fused kernel never stores the table of scores, and pays for it in the backward pass. Where the table is small
that is a bad bargain. Milliseconds, forward + backward, on two AVX512-BF16 cores, heads of 64:

    batch, heads, tokens    bf16: fused        products       fp32: fused        products
    64, 3, 50               2.3 + 16.6         1.9 + 2.4      2.5 + 5.5          2.3 + 4.0
    64, 3, 196              18.3 + 52.7        12.6 + 17.6    17.5 + 47.9        21.0 + 37.7
    8, 3, 785               28.1 + 56.2        22.2 + 36.4    28.5 + 64.8        69.4 + 116

In frozen layers, which have no backward pass, products are still the faster way in bf16, and the slower one in fp32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SHORT = {torch.bfloat16: 512, torch.float32: 128}  # keys up to which products are surely faster


def attention(
    query: Tensor,  # the names are those of F.scaled_dot_product_attention, whose callers may use them
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`F.scaled_dot_product_attention`, B H N D -> B H N D, by products where they are faster on the CPU."""
    plain = not (dropout_p or is_causal or enable_gqa) and (attn_mask is None or attn_mask.is_floating_point())
    if not plain or not _on_cpu(query, key, value) or not _short(query, key):
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    return by_products(query, key, value, attn_mask, scale)


def by_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """softmax(scale query key' + mask) value, scores and softmax in the dtype of the inputs."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    with torch.autocast("cpu", enabled=False):  # which would take the softmax to float32 and back
        scores = (query * scale) @ key.mT
        if mask is not None:
            scores = scores + mask.to(scores.dtype)
        return scores.softmax(-1) @ value


def _short(query: Tensor, key: Tensor) -> bool:
    return query.ndim == 4 and key.shape[-2] <= SHORT.get(query.dtype, 0)


def _on_cpu(query: Any, key: Tensor, value: Tensor) -> bool:
    return bool(
        isinstance(query, Tensor)  # and no symbol of torch.fx
        and query.device.type == "cpu"
        and query.dtype == key.dtype == value.dtype
        and (_learns(query, key, value) or query.dtype == torch.bfloat16)  # frozen float32 is faster fused
    )


def _learns(*tensors: Tensor) -> bool:
    return any(tensor.requires_grad for tensor in tensors)
