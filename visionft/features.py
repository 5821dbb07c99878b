"""Frozen features, computed once: what probes, kNN and scorers stand on, in seconds the second time."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .atomic import replace
from .backbone import Backbone
from .data.cache import cache_root, forget, used
from .data.views import Views, batches
from .kernels import Kernels
from .objective import View
from .precision import inference, native_bf16
from .weights import fingerprint

EVALUATION = {"image": View("none")}
ARITHMETIC = 2  # counted up whenever the same weights give other last digits: 2 folds batch norms


def features(
    backbone: Backbone,
    pixels: Sequence[np.ndarray],
    digests: Sequence[str],
    *,
    size: int,
    batch: int = 64,
    store: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Pooled features of every image, `N D` float32, in order.

    Cached on disk under a hash of the weights, the preprocessing and the arithmetic, image by image by content
    (`digests`): a new split, a new order or ten more photos compute only what is new. `store=False` keeps nothing.
    Raises ValueError where an image has no digest: a scanned table has them all.
    """
    if not all(digests):
        raise ValueError("features are kept by content, and an image has no digest; scan the table first")
    folder = cache_root() / "features" / _key(backbone, size)
    known = _read(folder) if store else {}
    used(folder)
    missing = [i for i, d in enumerate(digests) if d not in known]
    made = _compute(
        backbone, [pixels[i] for i in missing] if len(missing) < len(pixels) else pixels, size, batch, progress
    )
    fresh = {digests[i]: row for i, row in zip(missing, made, strict=True)}
    if store and fresh:
        _write(folder, fresh)
    if not digests:
        return torch.zeros(0, backbone.dim)
    return torch.stack([fresh[d] if d in fresh else known[d] for d in digests])


@contextmanager
def answering(backbone: Backbone) -> Iterator[None]:
    """As `resting`, in the arithmetic of inference."""
    with resting(backbone), inference(backbone.mean.device):
        yield


@contextmanager
def resting(backbone: Backbone) -> Iterator[None]:
    """Idle norms folded, for a block in which nothing is learnt."""
    kernels = Kernels()
    with kernels if kernels.fold(backbone, still=True) else nullcontext():  # looking at every call takes its time
        yield


@torch.no_grad()
def _compute(
    backbone: Backbone, pixels: Sequence[np.ndarray], size: int, batch: int, progress: Callable[[int, int], None] | None
) -> Tensor:
    if not len(pixels):
        return torch.zeros(0, backbone.dim)
    training, out = backbone.training, []
    data = Views(pixels, EVALUATION, {"image": size}, channels=backbone.channels)
    device = backbone.mean.device
    backbone.eval().to(memory_format=torch.channels_last)
    with answering(backbone):
        for done, part in enumerate(batches(data, batch)):
            out.append(backbone(part["image"].to(device)).float().cpu())
            if progress:
                progress(min(len(data), (done + 1) * batch), len(data))
    backbone.train(training)
    return torch.cat(out)


def _key(backbone: Backbone, size: int) -> str:
    weights = fingerprint(backbone.net if backbone.adapter is None else backbone)
    text = [weights, backbone.spec(), size, native_bf16(backbone.mean.device), ARITHMETIC]
    return hashlib.blake2b(repr(text).encode(), digest_size=16).hexdigest()


def _read(folder: Path) -> dict[str, Tensor]:
    known: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            known |= load_file(file)
        except (OSError, SafetensorError):  # gone or broken: what it held is computed again
            file.unlink(missing_ok=True)
    return known


def _write(folder: Path, rows: dict[str, Tensor]) -> None:
    """One new file for what was new: processes add beside each other and overwrite nothing."""
    forget(folder.parent)
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.blake2b("".join(sorted(rows)).encode(), digest_size=8).hexdigest()
    replace(
        folder / f"{name}-{os.getpid()}.safetensors", lambda f: save_file({k: v.clone() for k, v in rows.items()}, f)
    )


@torch.no_grad()
def seconds(backbone: Backbone, pixels: Sequence[np.ndarray], *, size: int) -> float:
    """Seconds that the features of one of these decoded images take, in one batch, once everything is warm."""
    views = Views(pixels, EVALUATION, {"image": size}, channels=backbone.channels)
    images = next(batches(views, len(pixels)))["image"]
    backbone.eval()
    with answering(backbone):
        backbone(images)
        began = time.perf_counter()
        backbone(images)
    return (time.perf_counter() - began) / len(pixels)
