"""What the verbs of inspection read: every key, with its default and its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from visionft.config import key
from visionft.errors import ConfigError
from visionft.recipe import Photos, within


@dataclass(frozen=True, kw_only=True)
class InspectFit(Photos):
    """Learn what good parts look like, and promise how many of them will be rejected."""

    data: Any = key(None, "a folder of good parts, a list of paths or arrays, or a tree with train/good in it")
    false_reject: float = key(0.01, "share of good parts that may be rejected; 0.01 takes 99 good images, 0.001 999")
    confidence: float | None = key(
        None,
        "null keeps the promise on average; 0.95 with 95 % confidence for the very threshold that is set, which takes "
        "three times as many good images (299 for 0.01)",
    )
    eyes: Any = key(
        "auto",
        "how images are looked at: names of eyes, listed below, or [{name: patches, scale: 2, layers: [1, 2]}]; auto "
        "is what does well where nothing is known of defects",
    )
    scale: float = key(
        1.0,
        "the resolution at which photos are looked at, in shares of their own; 1.5 outlines defects better in photos "
        "below 400 pixels and takes twice the time; eyes that name a scale keep theirs",
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
        within(self, "false_reject", "confidence", above=0, below=1)
        within(self, "mm_per_pixel", "scale", above=0)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What mistakes cost, in any currency."""

    escape: float | None = key(None, "of a defect that passes; null asks nothing about costs")
    overkill: float = key(1, "of a good part that is rejected")
    look: float = key(0, "of a human's look at a part that is unsure")
    defects: float | None = key(None, "share of parts on the line that are defective; goes with escape")

    def __post_init__(self) -> None:
        within(self, "escape", "overkill", "look", low=0)
        within(self, "defects", above=0, below=1)
        if (self.escape is None) != (self.defects is None):
            self.prices()

    @property
    def asked(self) -> bool:
        """Whether anybody has said what mistakes cost."""
        return self.escape is not None

    def prices(self) -> tuple[float, float]:
        """What a part of the line costs where all defects pass, and where all good parts are rejected.

        Raises ConfigError unless it was said what an escape costs and how many parts are defective.
        """
        if self.escape is None or self.defects is None:
            raise ConfigError("costs take both: costs.escape=50 costs.defects=0.02")
        return self.defects * self.escape, (1 - self.defects) * self.overkill


@dataclass(frozen=True, kw_only=True)
class InspectPredict:
    """Judge photos: stop or go, with a p-value, and where."""

    run: str = key("", "the run folder, or the ONNX file that was exported of it")
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
    costs: Costs = key(Costs(), "what mistakes cost: the report then names the budget that is cheapest")


@dataclass(frozen=True, kw_only=True)
class AddDefects:
    """Let photos of real defects choose how an inspector looks; the promise is made anew, by the same good photos."""

    run: str = key("", "the run folder")
    data: Any = key(None, "6 photos of defects or more (from 10 on a head learns): a folder, or annotations")
    good: Any = key(None, "the good photos, which are fitted to again; null finds them where they were")
    false_accept: float | None = key(
        None,
        "share of defects that may pass as good; photos that could be either are unsure, for a human to look at; 0.1 "
        "takes 9 defects, 0.01 99; null calls none unsure",
    )
    by_kind: bool = key(False, "keep that for each kind of defect that has so many photos, not only for all together")
    costs: Costs = key(Costs(), "what mistakes cost: false_reject then becomes what is cheapest on photos held out")
    bad: Literal["error", "skip"] = key("error", "what to do with files that cannot be decoded")
    out: str | None = key(None, "the run folder to write; null adds -defects to the name of the first")
    report: bool = key(True, "write report.html")

    def __post_init__(self) -> None:
        within(self, "false_accept", above=0, below=1)


@dataclass(frozen=True, kw_only=True)
class InspectWatch:
    """Judge what a camera, a video or a folder brings, at once, and hand the verdicts on."""

    run: str = key("", "the run folder")
    source: Any = key(None, "a camera's number, an address (rtsp://...), a video, or a folder that photos are put into")
    camera: dict[str, Any] = key(
        {}, "what a camera is set to, in OpenCV's words: {frame_width: 1920, frame_height: 1080}"
    )
    buffer: int = key(
        4,
        "photos of a camera that wait while one is judged; when more come, the oldest are dropped and counted; "
        "with 1 the newest is judged",
    )
    every: float | None = key(None, "of a camera or video, judge one photo in so many seconds at most; null judges all")
    give_up: float | None = key(
        60, "seconds that a camera or folder may stay away until it ends with an error; null waits for ever"
    )
    stop_after: int | None = key(None, "parts after which it ends; null goes on until the video ends, or Ctrl-C")
    out: str | None = key(None, "a folder for the log and pictures of rejects, gone on with when it is there already")
    log: Literal["jsonl", "csv"] = key("jsonl", "how verdicts and events are written: verdicts.jsonl or verdicts.csv")
    pictures: bool = key(
        True, "write photo, overlay and mask of every rejected part to rejects/, of unsure ones to unsure/"
    )
    webhook: str | None = key(None, "a web address that verdicts and events are posted to, as JSON")
    mqtt: str | None = key(None, "a topic they are published to: mqtt://user:password@host:1883/line/3 (mqtts: TLS)")
    alarm: float | None = key(
        0.001, "chance of a false alarm that photos drift away from those fitted to, a window; null does not look"
    )
    window: int = key(50, "parts that pass between two looks at drift")
    send: Literal["all", "rejects"] = key(
        "all",
        "which verdicts are posted and published (rejects: all that do not pass, unsure ones too); events always are",
    )

    def __post_init__(self) -> None:
        within(self, "buffer", "stop_after", low=1)
        within(self, "every", "give_up", above=0)
        within(self, "alarm", above=0, below=0.5)
        within(self, "window", low=10)


@dataclass(frozen=True, kw_only=True)
class InspectExport:
    """Write an inspector as one ONNX file, kept only if it answers on photos as PyTorch does."""

    run: str = key("", "the run folder")
    data: Any = key(None, "photos as the camera takes them, all of one size, good ones and defects: a folder or a list")
    out: str = key("part.onnx", "the file; what was compared and how long it takes is written beside it, as .json")
    most: int = key(64, "photos that are compared at most, evenly spread")
    batch: int = key(8, "photos that are judged together, besides one at a time; fewer where they are large")
    tolerance: float = key(
        0.02, "how far answers may lie from PyTorch's in the same arithmetic, in standard deviations of good parts"
    )
    shift: float = key(1.0, "and from PyTorch's on this machine, which are of bf16 where the processor is made for it")
    openvino: bool = key(False, "compare and time the file in OpenVINO, too (extra openvino)")

    def __post_init__(self) -> None:
        within(self, "most", "batch", low=2)
        within(self, "tolerance", "shift", above=0)
        if not self.out.endswith(".onnx"):
            raise ConfigError(f"out={self.out} is to be a file that ends with .onnx")
