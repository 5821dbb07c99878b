"""A plain fine-tuning loop of timm's parts, as its train.py puts them together, with what suits a few hundred images.

From train.py: timm's training transform (crop, mirror, colour jitter 0.4), AdamW, a cosine after a warm-up, label
smoothing 0.1, batch norms in train mode, fp32, a new head of random weights. Scaled to small data: batches of 32,
rates of `LR`, and crops of half the area or more, since crops of 8 % are for ImageNet. Images are tested whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .job import Answer, Job, Order, Start, paced, versions

BATCH, SMOOTHING, DECAY, WARMUP = 32, 0.1, 0.05, 0.1
LR = 1e-3


class Files(Dataset[tuple[Tensor, int]]):
    """Image files, transformed, with their labels."""

    def __init__(self, files: Sequence[str], labels: Sequence[int], transform: Any) -> None:
        self.files, self.labels, self.transform = files, labels, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        with Image.open(self.files[at]) as image:
            return self.transform(image.convert("RGB")), self.labels[at]


def ready(job: Job) -> Start:
    """Make the loop ready."""
    start = paced(job, train)
    return lambda: _noted(start(), versions("torch", "timm"))


def train(order: Order) -> Answer:
    """Train the whole network at one rate."""
    random_seed(order.job.seed)
    return fit(network(order.job), order, LR)


def network(job: Job) -> Any:
    """The pretrained network with a head of random weights."""
    return timm.create_model(
        job.backbone, pretrained=True, num_classes=len(job.classes), pretrained_cfg_overlay={"file": job.weights}
    )


def fit(model: Any, order: Order, lr: float) -> Answer:
    """The loop: whatever of the model may learn does."""
    config = resolve_model_data_config(model, args={"input_size": (3, order.job.size, order.job.size)})
    augment = create_transform(**_read(config), is_training=True, scale=(0.5, 1.0))
    data = Files(order.files, order.labels, augment)
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=len(data) > BATCH, num_workers=order.workers)
    optimizer = create_optimizer_v2(model, "adamw", lr=lr, weight_decay=DECAY)
    steps = order.epochs * len(loader)
    schedule = CosineLRScheduler(optimizer, steps, warmup_t=round(WARMUP * steps), warmup_lr_init=0.0,
                                 warmup_prefix=False, t_in_epochs=False)  # fmt: skip
    criterion, step = nn.CrossEntropyLoss(label_smoothing=SMOOTHING), 0
    for _ in range(order.epochs):
        model.train()
        for images, labels in loader:
            schedule.step_update(step)
            torch.autograd.backward(criterion(model(images), labels))
            optimizer.step()
            optimizer.zero_grad()
            step += 1
        order.passed()
    whole = create_transform(**_read(config), is_training=False, crop_pct=1.0, crop_mode="squash")
    return lambda files: answer(model, Files(files, [0] * len(files), whole))


@torch.no_grad()
def answer(model: Any, data: Files) -> npt.NDArray[np.float32]:
    """Probabilities, N C."""
    model.eval()
    told = [model(images).softmax(1) for images, _ in DataLoader(data, 2 * BATCH)]
    return torch.cat(told).numpy()


def _read(config: dict[str, Any]) -> dict[str, Any]:
    """How the weights expect images."""
    return {key: config[key] for key in ("input_size", "mean", "std", "interpolation")}


def _noted(done: tuple[Answer, dict[str, Any]], of: dict[str, str]) -> tuple[Answer, dict[str, Any]]:
    answered, facts = done
    return answered, facts | {"installed": of}
