"""fastai as its tutorial for vision fine-tunes: `vision_learner(...).fine_tune(epochs)`, with its defaults.

Images are presized and then augmented at the network's size, as the tutorial has it; batches of 64, one epoch with the
body frozen, then rates of 1e-5 to 1e-3 in one cycle; fp32. `fine_tune` looks at validation images for nothing but
printing, so all labels are for learning. The normalisation is that of the weights, as fastai reads it from timm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from fastai.callback.schedule import Learner  # also gives it fine_tune
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import IndexSplitter
from fastai.learner import Callback
from fastai.torch_core import set_seed
from fastai.vision.augment import Resize, aug_transforms
from fastai.vision.data import ImageBlock
from fastai.vision.learner import vision_learner

from .job import Answer, Job, Order, Start, paced, versions

FROZEN = 1  # epochs that fine_tune trains the head alone
BATCH = 64
PRESIZED = 1.5  # as the files: larger than the network sees, for crops to be sharp


class Passed(Callback):  # type: ignore[misc]
    """Tell whoever measures time that an epoch is over."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell = tell

    def after_epoch(self) -> None:
        self.tell()


def ready(job: Job) -> Start:
    """Make the learner ready."""
    start = paced(job, train, before=FROZEN)

    def noted() -> tuple[Answer, dict[str, Any]]:
        answer, facts = start()
        return answer, facts | {"installed": versions("torch", "timm", "fastai")}

    return noted


def train(order: Order) -> Answer:
    """Fine-tune."""
    job = order.job
    set_seed(job.seed)
    learn = learner(order)
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(order.epochs, cbs=Passed(order.passed))
    columns = [list(learn.dls.vocab).index(name) for name in job.classes]

    def answer(files: Sequence[str]) -> npt.NDArray[np.float32]:
        with learn.no_bar(), learn.no_logging():
            told, _ = learn.get_preds(dl=learn.dls.test_dl(list(files), num_workers=0))
        return told.numpy()[:, columns]  # type: ignore[no-any-return]

    return answer


def learner(order: Order) -> Learner:
    """The pretrained network under fastai's head, and the images."""
    job = order.job
    names = dict(zip(order.files, (job.classes[label] for label in order.labels), strict=True))
    block = DataBlock(
        (ImageBlock, CategoryBlock(vocab=job.classes)),
        get_y=lambda file: names[file],  # not the bound method, whose signature fastai cannot read
        splitter=IndexSplitter([]),
        item_tfms=Resize(round(PRESIZED * job.size)),
        batch_tfms=aug_transforms(size=job.size),
    )
    loaders = block.dataloaders(list(order.files), bs=min(BATCH, len(order.files)), num_workers=order.workers)
    folder = Path(job.answers).parent  # where fastai would keep models
    return vision_learner(loaders, job.backbone, path=folder, pretrained_cfg_overlay={"file": job.weights})
