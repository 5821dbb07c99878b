"""How training went: losses, the gap between training and validation images, and whether more labels would help."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from visionft import plots
from visionft.errors import DataError
from visionft.evaluation.learning_curve import learning_curve
from visionft.log import read_metrics
from visionft.report import Report


def losses(report: Report, run: Path, kept: int) -> list[tuple[int, float]]:
    """Draw training and validation loss over the steps of a run, of which one was kept; returns the validation loss."""
    rows = read_metrics(run / "metrics.jsonl")
    merged = [{"step": r["step"], **{n: r[k] for n, k in (("training", "loss"), ("validation", "log_loss")) if k in r}}
              for r in rows]  # fmt: skip
    if any("training" in r for r in merged):
        report.figure(plots.curves(merged, ["training", "validation"]), f"Loss; {weights_of(kept)} were kept")
    return [(int(r["step"]), float(r["validation"])) for r in merged if "validation" in r]


def weights_of(step: int) -> str:
    """In words; step 0 is the start."""
    return f"the weights of {f'step {step}' if step else 'the start'}"


def more_labels(
    report: Report, features: Tensor, labels: Tensor, classes: int, groups: Sequence[str] | None = None
) -> None:
    """The learning curve of a probe on the frozen features of all labelled images but those of the test."""
    report.heading("Would more labels help?")
    try:
        found = learning_curve(features, labels, classes, groups=groups)
    except DataError as error:
        report.text(f"Not to be told: {error}.")
        return
    report.text(found.words)
    caption = (
        "Accuracy of a linear probe on frozen features, cross-validated on the images of training and validation, with "
        "95 % intervals over draws of labels and images. Fine-tuning learns more weights and may gain more from labels."
    )
    report.figure(plots.growth({"probe": found.points}, "labels", "accuracy"), caption)
