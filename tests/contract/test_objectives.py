"""Every objective keeps the promises of `check_objective`, and `check_objective` finds out who does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visionft.backbone import Backbone
from visionft.data.records import Table
from visionft.data.scan import scan
from visionft.objective import OBJECTIVES, Objective, View
from visionft.order import Draw
from visionft.testing import check_objective

CONV, VIT = "test_resnet", "test_vit"
ALLOWED = {"mae": (VIT,), "ijepa": (VIT,)}
PAIRS = [(name, model) for name in OBJECTIVES for model in ALLOWED.get(name, (CONV, VIT))]
OPTIONS = {
    "dinov2": [{}, {"targets": "centre", "kernel": 1.0, "warmup": 0.5}],
    "simmim": [{}, {"unit": 16, "mask": 0.3}],
    "simclr": [{}, {"loss": "dcl"}],
    "dino": [{}, {"warmup": 0.5, "teacher_temp": 0.07}],
    "distill": [{}, {"loss": "queue", "queue": 10}],
    "swav": [{}, {"queue": 6, "wait": 0.6, "frozen": 0.65}],
}


def some(data, count: int = 4) -> dict[str, Tensor]:
    return data.collate([data[Draw(i)] for i in range(count)])


@pytest.mark.parametrize(
    ("name", "model", "options"),
    [(name, model, options) for name, model in PAIRS for options in OPTIONS.get(name, [{}])],
)
def test_every_objective_keeps_its_promises(make_objective, make_data, name, model, options):
    objective = make_objective(name, model, **options)
    check_objective(objective, some(make_data(objective)))


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_takes_any_number_of_channels(make_objective, with_rows, name, channels):
    objective = make_objective(name, VIT, channels=channels)
    g = torch.Generator().manual_seed(0)

    def images(*shape: int) -> Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=g)

    batch = {"draw": torch.arange(4), "label": torch.arange(4) % 3}
    for key, view in objective.sees.items():
        side = objective.backbone.side(32 * view.share)
        batch[key] = images(4, *([] if view.count is None else [view.count]), channels, side, side)
    pixels = [*images(4, 32, 32, channels).numpy()]
    batch |= objective.columns(pixels, with_rows(scan(Table.of(pixels), channels=channels).table), 32)
    check_objective(objective, batch)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_the_loss_compares_has_one_row_an_image(make_objective, name):
    objective = make_objective(name, VIT).eval()
    z = objective.project(torch.randn(5, objective.backbone.dim))
    assert z.shape[0] == 5
    assert z.ndim == 2


class Good(Objective):
    """Predicts the mean brightness of an image."""

    sees = {"image": View("none")}

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = Backbone("test_vit", size=32)
        self.head = nn.Linear(self.backbone.dim, 1)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        target = batch["image"].float().mean((1, 2, 3)) / 255
        return {"loss": (self.head(self.backbone(batch["image"]))[:, 0] - target).square().mean()}


class Nondeterministic(Good):
    """Draws from a stream that no seed reaches."""

    numbers = np.random.default_rng(0)

    def forward(self, batch):
        return {"loss": super().forward(batch)["loss"] * (1 + float(self.numbers.random()))}


class Counting(Good):
    """Keeps a count outside its state."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, batch):
        return {"loss": super().forward(batch)["loss"] * (1 + self.count)}

    def after_step(self, progress):
        self.count += 1


class Warming(Good):
    """Keeps the progress outside its state: right again after the next step, wrong in the first one after resuming."""

    def __init__(self) -> None:
        super().__init__()
        self.done = 0.0

    def forward(self, batch):
        return {"loss": super().forward(batch)["loss"] * (1 + self.done)}

    def after_step(self, progress):
        self.done = progress


class Queueing(Good):
    """Keeps past features as a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = torch.zeros(1)

    def forward(self, batch):
        loss = super().forward(batch)["loss"]
        total = loss * (1 + self.queue.mean())
        self.queue = self.queue + loss.detach()
        return {"loss": total}


class Silent(Good):
    """Has a weight that no gradient reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)


class Detached(Good):
    """Trains its head only."""

    def forward(self, batch):
        z = self.backbone(batch["image"]).detach()
        return {"loss": self.head(z).square().mean() + 0 * sum(p.sum() for p in self.backbone.parameters())}


class Mutating(Good):
    """Writes into its batch."""

    def forward(self, batch):
        batch["image"] //= 2
        return super().forward(batch)


class Adding(Good):
    """Puts something of its own into its batch."""

    def forward(self, batch):
        batch["mask"] = torch.ones(1)
        return super().forward(batch)


class Infinite(Good):
    """Is not finite."""

    def forward(self, batch):
        return {"loss": super().forward(batch)["loss"] / 0}


class Vector(Good):
    """Returns one loss an image."""

    def forward(self, batch):
        return {"loss": super().forward(batch)["loss"].expand(len(batch["image"]))}


class Comparing(Good):
    """Says that its loss divides, and compares images with each other."""

    divides = True

    def forward(self, batch):
        z = self.head(self.backbone(batch["image"]))
        return {"loss": (z - z.mean(0)).square().mean()}


class Tracing(Good):
    """Says that its loss divides, and counts how often it was asked."""

    divides = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("asked", torch.zeros(()))

    def forward(self, batch):
        self.asked += 1
        return super().forward(batch)


class Dividing(Good):
    """Says so, rightly."""

    divides = True


def image_batch() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=g)
    return {"image": images, "draw": torch.arange(4)}


def test_an_honest_objective_passes():
    check_objective(Good(), image_batch())
    check_objective(Dividing(), image_batch())


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Nondeterministic, "same loss"),
        (Counting, "state_dict must be complete"),
        (Warming, "state_dict must be complete"),
        (Queueing, "state_dict must be complete"),
        (Silent, "unused"),
        (Detached, "backbone learns nothing"),
        (Mutating, "batch"),
        (Adding, "batch"),
        (Infinite, "finite"),
        (Vector, "one finite number"),
        (Comparing, "not the mean"),
        (Tracing, "leaves a trace in asked"),
    ],
)
def test_a_broken_promise_is_found(broken: Callable[[], Objective], said: str):
    with pytest.raises(AssertionError, match=said):
        check_objective(broken(), image_batch())
