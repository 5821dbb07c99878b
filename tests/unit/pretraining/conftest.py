"""What tests of losses share: one small batch with everything that an objective may look at."""

from __future__ import annotations

import pytest
import torch

B = 5


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Five images of noise: two views, three crops, the image itself, and their draws."""
    g = torch.Generator().manual_seed(0)

    def images(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=g)

    return {
        "views": images(B, 2, 3, 32, 32),
        "crops": images(B, 3, 3, 16, 16),
        "image": images(B, 3, 32, 32),
        "draw": torch.arange(100, 100 + B),
    }
