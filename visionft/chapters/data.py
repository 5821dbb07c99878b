"""What the scan found, and whether the test knows the training images already."""

from __future__ import annotations

from visionft.data.scan import Scan
from visionft.evaluation.twins import Twins
from visionft.evaluation.worth import Labelled
from visionft.report import Report

SHOWN = 6  # pairs


def data(report: Report, scan: Scan) -> None:
    """What the scan found."""
    report.heading("Data")
    report.text("\n\n".join(scan.lines()))


def twins(report: Report, found: Twins, test: Labelled, train: Labelled, right: list[bool]) -> None:
    """Pairs across the split side by side, and how good the answers are on the test images without a twin."""
    report.text(found.words)
    if not found.pairs:
        return
    alone = [hit for at, hit in enumerate(right) if at not in {pair.test for pair in found.pairs}]
    if alone:
        report.text(f"Accuracy on the {len(alone)} test images without a twin: {sum(alone) / len(alone):.3f}.")
    pictures = []
    for pair in found.pairs[:SHOWN]:
        for side, at, name in ((test, pair.test, "test"), (train, pair.train, "training")):
            said = "identical" if pair.identical else f"{pair.likeness:.3f}"
            words = f"{name} · {side.table.classes[int(side.labels[at])]} · {said}"
            pictures.append((side.pixels[at][..., :3], words))
    caption = f"{min(SHOWN, len(found.pairs))} of {len(found.pairs)} pairs, with their correlation"
    report.gallery(pictures, caption, 6)
