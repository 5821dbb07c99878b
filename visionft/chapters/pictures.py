"""Test images to look at: the surest mistakes and the least certain answers, and where the network looked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from visionft.arrays import Ints
from visionft.data.views import Views, batches
from visionft.evaluation.saliency import overlays
from visionft.evaluation.worth import Labelled
from visionft.features import EVALUATION
from visionft.report import Report

if TYPE_CHECKING:
    from visionft.tasks.predictor import Predictor

COUNT = 12


def pictures(report: Report, predictor: Predictor, p: Tensor, guess: Ints, test: Labelled) -> None:
    """Two galleries, each image beside the same image under the map of what spoke for its answer."""
    said = torch.from_numpy(guess)
    sure = p.gather(1, said[:, None])[:, 0]
    wrong = (said != test.labels).nonzero().flatten()
    report.heading("Worst mistakes")
    if len(wrong):
        worst = wrong[sure[wrong].argsort(descending=True)][:COUNT].tolist()
        caption = f"{len(worst)} of {len(wrong)} wrong answers, those with the highest probability first"
        _gallery(report, predictor, p, said, test, worst, caption)
    else:
        report.text("There are none on these test images.")
    top = p.topk(2, dim=1).values
    margin = top[:, 0] - top[:, 1]
    report.heading("Least certain")
    unsure = margin.argsort()[:COUNT].tolist()
    caption = "The test images whose two likeliest classes are closest, right or wrong: worth a second look, or a label"
    _gallery(report, predictor, p, said, test, unsure, caption)


def _gallery(
    report: Report, predictor: Predictor, p: Tensor, said: Tensor, test: Labelled, places: list[int], caption: str
) -> None:
    views = Views([test.pixels[i] for i in places], EVALUATION, {"image": predictor.images["size"]},
                  channels=predictor.images["channels"])  # fmt: skip
    images = next(batches(views, len(places)))["image"].to(predictor.model.backbone.mean.device)
    drawn = overlays(predictor.model, images, said[places])
    named, shown = test.table.classes, []
    for at, i in enumerate(places):
        truth, answer = named[int(test.labels[i])], named[int(said[i])]
        right = "right" if truth == answer else f"is {truth}"
        words = f"{answer} {float(p[i, said[i]]):.2f}, {right} · {Path(test.table[i].name).name}"
        shown.append((test.pixels[i][..., :3], words))
        shown += [(drawn[0][at], "what spoke for it")] if drawn else []
    how = "At this size the network keeps no map of places that could show where it looked."
    if drawn:
        how = f"Right of each: bright where it spoke for the answer, all dark where no place did ({drawn[1]})."
    report.gallery(shown, f"{caption}. {how}", 6)
