"""Where in an image is what decided its class? Grad-CAM of the last feature map (arXiv:1610.02391), or of a plain ViT,
whose last tokens have long seen each other, attention weighted by its gradient through all blocks (arXiv:2103.15679).

Nothing but the answer is differentiated, and no weight: frozen networks, adapters and folded norms make no difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .looks import Pixels, heated, restored
from .tables import Tables

GRAD_CAM, RELEVANCE = "Grad-CAM of the last feature map", "attention weighted by its gradient, through all blocks"


def saliency(model: Any, images: Tensor, said: Tensor | None = None) -> tuple[Tensor, str] | None:
    """B H W, 0 to 1 an image: how much every place speaks for the class that is said (B), or likeliest; and the method.

    `model.predict(images)` gives B K probabilities of images B C H W, through `model.backbone`. None where the network
    has neither one map of several places nor blocks of attention.
    """
    for way, name in ((relevance, RELEVANCE), (grad_cam, GRAD_CAM)):
        found = way(model, images, said)
        if found is not None and found[0].numel() > 1:
            return _grown(found, images), f"{name}, {found.shape[1]} x {found.shape[2]} places"
    return None


def grad_cam(model: Any, images: Tensor, said: Tensor | None = None) -> Tensor | None:
    """B h w: channels of the last map, weighted by the mean of their gradients; what speaks against is cut off."""
    net = model.backbone.net
    with torch.enable_grad(), _last_map(net) as caught:
        answer = _score(model, images, said)
        if not caught or not answer.requires_grad:
            return None
        (slope,) = torch.autograd.grad(answer, caught[0])
    at, by = (_grid(net, x, images) for x in (caught[0].detach(), slope))
    if at is None or by is None or not by.any():  # of a last class token alone nothing leads to the places
        return None
    return (by.mean((2, 3), keepdim=True) * at).sum(1).relu().detach()


def relevance(model: Any, images: Tensor, said: Tensor | None = None) -> Tensor | None:
    """B h w: what flows from each patch to what is pooled. R grows by relu(A dA) R, block by block, mean over heads."""
    net = model.backbone.net
    blocks = getattr(net, "blocks", None)
    if not isinstance(blocks, (nn.Sequential, nn.ModuleList)) or not hasattr(net, "num_prefix_tokens"):
        return None
    with torch.enable_grad(), _tokens(blocks) as entered, Tables() as tables:
        answer = _score(model, images, said)
        n = entered[0].shape[1] if entered and entered[0].ndim == 3 else 0
        if len(tables.seen) != len(blocks) or any(table.shape[2] < n for table in tables.seen) or not n:
            return None
        slopes = torch.autograd.grad(answer, tables.seen, allow_unused=True)
    flow = torch.eye(n).expand(len(images), n, n)
    for table, slope in zip(tables.seen, slopes, strict=True):
        if slope is not None:
            flow = flow + _among(n, (table.detach() * slope).float().cpu().relu().mean(1)) @ flow
    first: int = net.num_prefix_tokens
    pooled = flow[:, 0] if getattr(net, "global_pool", "") == "token" else flow[:, first:].mean(1)
    grid = _laid_out(pooled[:, None, first:], images)
    return None if grid is None else grid[:, 0]


def overlays(model: Any, images: Tensor, said: Tensor | None = None) -> tuple[list[Pixels], str] | None:
    """Each image, B C H W of uint8, in gray under its map: B times H W 3; and the method."""
    found = saliency(model, images, said)
    if found is None:
        return None
    maps, method = found
    return [drawn for drawn, _ in heated(maps[:, None], restored(model.backbone, images), ["map"])[1::2]], method


def _score(model: Any, images: Tensor, said: Tensor | None) -> Tensor:
    """Sum over images of the said class's log-probability less the mean of all: its logit, but for a common summand."""
    log_p: Tensor = model.eval().predict(images).clamp(min=torch.finfo(torch.float32).tiny).log()
    chosen = log_p.argmax(1) if said is None else said.to(log_p.device)
    return (log_p.gather(1, chosen[:, None])[:, 0] - log_p.mean(1)).sum()


@contextmanager
def _last_map(net: Any) -> Iterator[list[Tensor]]:
    """Cut the graph at the last map: what passes there is kept, and differentiation ends there."""
    caught: list[Tensor] = []
    own = net.forward_features

    def cut(*given: Any, **more: Any) -> Any:
        x = own(*given, **more)
        if not isinstance(x, Tensor):  # several maps at once (CrossViT) have no one place
            return x
        caught[:] = [x.detach().requires_grad_()]
        return caught[0]

    net.forward_features = cut
    try:
        yield caught
    finally:
        del net.forward_features


@contextmanager
def _tokens(blocks: Any) -> Iterator[list[Tensor]]:
    """Let the graph begin at the tokens that enter the first block."""
    caught: list[Tensor] = []

    def cut(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        caught[:] = [given[0].detach().requires_grad_()]
        return (caught[0], *given[1:])

    handle = blocks[0].register_forward_pre_hook(cut)
    try:
        yield caught
    finally:
        handle.remove()


def _among(n: int, table: Tensor) -> Tensor:
    """B N K -> B n n, of the image's own tokens: prompts stand behind them, prefixes of the keys before them."""
    return table[:, :n, :n] if table.shape[1] == table.shape[2] else table[:, :n, -n:]


def _grid(net: Any, x: Tensor, images: Tensor) -> Tensor | None:
    """Tokens, or a map with channels first or last -> B D h w, float32."""
    x, width = x.float(), net.num_features
    if x.ndim == 4:
        return x if x.shape[1] == width else x.permute(0, 3, 1, 2) if x.shape[3] == width else None
    return _laid_out(x[:, getattr(net, "num_prefix_tokens", 0) :].mT, images) if x.ndim == 3 else None


def _laid_out(patches: Tensor, images: Tensor) -> Tensor | None:
    """B D N -> B D h w, in the proportions of the images; None where N tokens are no such grid."""
    rows = round((patches.shape[2] * images.shape[2] / images.shape[3]) ** 0.5)
    return patches.unflatten(2, (rows, -1)) if rows and patches.shape[2] % rows == 0 else None


def _grown(maps: Tensor, images: Tensor) -> Tensor:
    """B h w -> B H W, the largest value of every image 1."""
    grown = F.interpolate(maps.detach()[:, None].float(), images.shape[2:], mode="bilinear")[:, 0]
    return grown / grown.amax((1, 2), keepdim=True).clamp(min=1e-12)
