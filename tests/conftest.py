"""What every test can ask for: two dozen small images of three kinds, tiny models, and a cache of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from visionft.backbone import Backbone
from visionft.data.records import Row, Table
from visionft.data.scan import scan
from visionft.data.targets import Classes, Flags, Levels, Number
from visionft.data.views import Views
from visionft.objective import Objective, find

KINDS = ("stripes", "blob", "checks")
SIDE = 32  # pixels; what the tiny models see
COLUMNS = (
    Classes("kind", names=KINDS),
    Flags("marks", names=("a", "b", "c"), listed=True, known=5 / 6),
    Levels("grade", names=("1", "2", "3", "4"), known=11 / 12),
    Number("size", mean=50, scale=10, known=3 / 4),
)
NEEDED = {
    "classify": {"classes": len(KINDS)},
    "distill": {"teacher": "test_resnet", "weights": "none"},
    "heads": {"targets": [target.facts() for target in COLUMNS]},
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from threads, and sums must not depend on how many there are."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what a test caches away from the user's cache and from other tests."""
    before = os.environ.get("VISIONFT_CACHE")
    os.environ["VISIONFT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("VISIONFT_CACHE")
    if before is not None:
        os.environ["VISIONFT_CACHE"] = before


@pytest.fixture(scope="session")
def labels() -> np.ndarray:
    """Eight images of each of three kinds, interleaved."""
    return np.arange(24) % len(KINDS)


@pytest.fixture(scope="session")
def pixels(labels: np.ndarray) -> list[np.ndarray]:
    """24 images, H W 3 uint8, sides 40 to 70: horizontal stripes, a bright blob, or a checkerboard, each tinted."""
    rng = np.random.default_rng(0)
    return [_image(KINDS[label], rng) for label in labels]


@pytest.fixture(scope="session")
def digests() -> list[str]:
    """One name per image, as the scan would give by content."""
    return [f"content-{at}" for at in range(24)]


def _image(kind: str, rng: np.random.Generator) -> np.ndarray:
    height, width = rng.integers(40, 71, 2)
    y, x = np.mgrid[:height, :width]
    shift, period = rng.uniform(0, 6), rng.uniform(7, 10)
    shape = {
        "stripes": np.sin(2 * np.pi * (y + shift) / period),
        "blob": 2 * np.exp(-((y - height / 2 + shift) ** 2 + (x - width / 2 - shift) ** 2) / 150) - 1,
        "checks": np.sign(np.sin(2 * np.pi * (y + shift) / 16) * np.sin(2 * np.pi * (x + shift) / 16)),
    }[kind]
    tint = np.array({"stripes": (1.0, 0.6, 0.4), "blob": (0.5, 1.0, 0.5), "checks": (0.4, 0.6, 1.0)}[kind])
    noisy = 128 + 80 * shape[..., None] * tint + rng.normal(0, 12, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def make_objective() -> Callable[..., Any]:
    """Build an objective on a tiny random backbone: the same one for the same words."""

    def make(name: Any, model: str = "test_vit", *, seed: int = 0, channels: int = 3, **options: Any) -> Objective:
        torch.manual_seed(seed)
        cls, options = find({"name": name, **options})
        options = NEEDED.get(name, {}) | options
        return cls(Backbone(model, size=SIDE, channels=channels), **options)

    return make


def rows_of(table: Table) -> Table:
    """Say of every image what a table might say in COLUMNS; now and then it says nothing."""
    cells = (
        {
            "kind": KINDS[at % 3],
            "marks": "?" if at % 6 == 5 else "|".join("abc"[: at % 4]),
            "grade": "" if at % 12 == 2 else str(1 + at % 4),
            "size": "" if at % 4 == 1 else str(30 + 2.5 * at),
        }
        for at in range(len(table))
    )
    records = (replace(record, row=Row(at + 2, row)) for at, (record, row) in enumerate(zip(table, cells, strict=True)))
    return replace(table, records=tuple(records))


@pytest.fixture(scope="session")
def with_rows() -> Callable[[Table], Table]:
    """Give any table the columns that the objective `heads` is made for in tests."""
    return rows_of


@pytest.fixture(scope="session")
def table(pixels: list[np.ndarray]) -> Table:
    """The 24 images as records, named by their content, with columns."""
    return rows_of(scan(Table.of(pixels)).table)


@pytest.fixture(scope="session")
def make_data(pixels: list[np.ndarray], labels: np.ndarray, table: Table) -> Callable[..., Views]:
    """The small images as the views that an objective asks for, with whatever else it wants to know of them."""

    def make(objective: Objective, *, seed: int = 0, policy: Any = None) -> Views:
        views = {k: v if policy is None else type(v)(policy, v.count, v.share) for k, v in objective.sees.items()}
        sides = {key: objective.backbone.side(SIDE * view.share) for key, view in views.items()}
        columns = objective.columns(pixels, table, SIDE)
        channels = objective.backbone.channels
        return Views(pixels, views, sides, labels=labels, columns=columns, channels=channels, seed=seed)

    return make
