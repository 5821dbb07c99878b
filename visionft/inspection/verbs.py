"""What the verbs of inspection read: every key, with its default and its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from visionft.config import key
from visionft.recipe import Photos, within


@dataclass(frozen=True, kw_only=True)
class InspectFit(Photos):
    """Learn what good parts look like, and promise how many of them will be rejected."""

    data: Any = key(None, "a folder of good parts, a list of paths or arrays, or a tree with train/good in it")
    false_reject: float = key(0.01, "share of good parts that may be rejected; 0.01 takes 99 good images, 0.001 999")
    eyes: Any = key(
        "auto",
        "how images are looked at: names of `visionft inspect eyes`, or [{name: patches, scale: 2, layers: [1, 2]}]; "
        "auto is what does well where nothing is known of defects",
    )
    border: Any = key(0, "pixels that are cut off on all sides; or four: [top, right, bottom, left]")
    region: str | None = key(None, "a picture of a photo's aspect, white where parts are judged and dark where not")
    suspects: Literal["name", "drop"] = key(
        "name",
        "good images that look like none of the others are named; drop also learns without them (they count in the "
        "promise nevertheless: leaving them out would promise too much)",
    )
    mm_per_pixel: float | None = key(None, "millimetres of a pixel, for areas; null gives them in pixels")
    bad: Literal["error", "skip"] = key("error", "what to do with files that cannot be decoded")
    cache: Literal["auto", "ram", "disk", "off"] = key("auto", "where decoded pixels are kept while it is fitted")
    backbone: str = key("tf_efficientnet_lite0", "a timm model, or a run folder such as one of `visionft pretrain`")
    out: str | None = key("runs/inspect", "the run folder; null writes nothing")
    report: bool = key(True, "write report.html")

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "false_reject", above=0, below=1)
        within(self, "mm_per_pixel", above=0)


@dataclass(frozen=True, kw_only=True)
class InspectPredict:
    """Judge photos: stop or go, with a p-value, and where."""

    run: str = key("", "the run folder")
    images: Any = key(None, "files, a folder, or arrays")
    out: str | None = key(None, "a folder for verdicts.csv and, of rejected photos, overlays and masks; null prints")


@dataclass(frozen=True, kw_only=True)
class InspectEvaluate:
    """Measure escapes and overkill on photos of which it is known what is good."""

    run: str = key("", "the run folder")
    data: Any = key(
        None, "class folders (good and kinds of defect), perhaps with masks, MVTec AD, COCO, YOLO, labelme, CVAT, CSV"
    )
    good: str | None = key(None, "the class that is good; null knows good, ok, normal, nominal, functional, free")
    bad: Literal["error", "skip"] = key("error", "what to do with files that cannot be decoded")
    out: str | None = key(None, "an HTML report to write; null writes evaluation.html into the run folder")
