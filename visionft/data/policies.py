"""Augmentation policies: a table of named albumentations pipelines, from `none` to `ssl`."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any
from unittest import mock

with mock.patch.dict(os.environ, {"NO_ALBUMENTATIONS_UPDATE": "1"}):  # else its import asks the network
    import albumentations as A

from visionft.config import suggest
from visionft.errors import ConfigError

Scale = tuple[float, float]


def policy(choice: Any, size: int, *, channels: int = 3, scale: Scale | None = None) -> A.Compose:
    """Build a named policy that ends in `size` x `size` pixels, or take a user's own Compose as it is.

    `scale` is the area of the random crop relative to the image, where the policy crops. Raises ConfigError for an
    unknown name.
    """
    if isinstance(choice, A.BasicTransform | A.BaseCompose):
        own = copy.deepcopy(choice)  # it will be given a stream of random numbers, which two data sets must not share
        return own if isinstance(own, A.Compose) else A.Compose([own])
    if choice not in POLICIES:
        raise ConfigError(f"there is no policy {choice!r}{suggest(str(choice), POLICIES)}")
    return A.Compose(POLICIES[choice](size, channels, scale))


def none(size: int, channels: int, scale: Scale | None) -> list[Any]:
    """The whole image as a square, nothing cut off: what evaluation sees, defects at the border too."""
    return [A.Resize(size, size, area_for_downscale="image")]


def light(size: int, channels: int, scale: Scale | None) -> list[Any]:
    """Large crops, mirrored, slightly turned and lit: a safe start for a few hundred labels."""
    return [*_crop(size, scale or (0.5, 1.0)), A.HorizontalFlip(), A.Rotate((-10, 10), border_mode=4), _lit(0.2)]


def medium(size: int, channels: int, scale: Scale | None) -> list[Any]:
    """Smaller crops, colour and affine changes: for thousands of labels."""
    colour = [A.ColorJitter((0.7, 1.3), (0.7, 1.3), (0.7, 1.3), (-0.05, 0.05), p=0.8)] if channels == 3 else [_lit(0.3)]
    bent = A.Affine(scale=(0.9, 1.1), rotate=(-15, 15), shear=(-5, 5), border_mode=4)
    return [*_crop(size, scale or (0.3, 1.0)), A.HorizontalFlip(), bent, *colour]


def strong(size: int, channels: int, scale: Scale | None) -> list[Any]:
    """Medium, plus blur, noise and holes: for long training."""
    return [*medium(size, channels, scale or (0.2, 1.0)), A.GaussianBlur(sigma_limit=(0.1, 1.5), p=0.2),
            A.GaussNoise((0.01, 0.05), p=0.2), A.CoarseDropout(p=0.3)]  # fmt: skip


def inspection(size: int, channels: int, scale: Scale | None) -> list[Any]:
    """Every flip and quarter turn, a little shift and light, and no crop that could cut the defect away."""
    moved = A.Affine(scale=(0.95, 1.05), translate_percent=(-0.03, 0.03), rotate=(-3, 3), border_mode=4)
    return [*none(size, channels, scale), A.D4(), moved, _lit(0.15)]


def ssl(size: int, channels: int, scale: Scale | None) -> list[Any]:
    """SimCLR's views: random crop, mirror, colour, gray, blur (arXiv:2002.05709, colour at half strength)."""
    return [*_crop(size, scale or (0.2, 1.0)), A.HorizontalFlip(), *_colours(channels),
            A.GaussianBlur(sigma_limit=(0.1, 2.0), p=0.5)]  # fmt: skip


def dino(size: int, channels: int, scale: Scale | None) -> list[Any]:
    """The views of DINO: those of SimCLR, sometimes solarised (arXiv:2104.14294)."""
    return [*ssl(size, channels, scale), A.Solarize(p=0.1)]


def mae(size: int, channels: int, scale: Scale | None) -> list[Any]:
    """Crop and mirror only: hiding patches is augmentation enough (arXiv:2111.06377)."""
    return [*_crop(size, scale or (0.2, 1.0)), A.HorizontalFlip()]


POLICIES: dict[str, Callable[[int, int, Scale | None], list[Any]]] = {
    f.__name__: f for f in (none, light, medium, strong, inspection, ssl, dino, mae)
}


def _crop(size: int, scale: Scale) -> list[Any]:
    return [A.RandomResizedCrop((size, size), scale=scale, area_for_downscale="image")]


def _lit(limit: float) -> Any:
    return A.RandomBrightnessContrast((-limit, limit), (-limit, limit))


def _colours(channels: int) -> list[Any]:
    if channels != 3:
        return [A.RandomBrightnessContrast((-0.4, 0.4), (-0.4, 0.4), p=0.8)]
    return [A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1), p=0.8), A.ToGray(p=0.2)]
