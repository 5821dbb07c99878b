"""Good parts with stripes and noise, and what spoils them."""

from __future__ import annotations

import numpy as np

SIZE = (48, 64)


def parts(count: int, seed: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Good ones, H W 3."""
    rng = np.random.default_rng(seed)
    stripes = (np.arange(size[1]) // 4 % 2 * 60 + 90)[None, :, None]
    return [(stripes + rng.normal(0, 6, (*size, 3))).clip(0, 255).astype(np.uint8) for _ in range(count)]


def spoiled(image: np.ndarray, rows: slice = slice(20, 30), columns: slice = slice(30, 42)) -> np.ndarray:
    """With a dark spot."""
    image = image.copy()
    image[rows, columns] = 20
    return image
