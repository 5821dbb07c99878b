"""What the verbs read that do not train one run: every key, with its default and its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .config import key
from .errors import ConfigError
from .recipe import Finetune, Images, within


@dataclass(frozen=True, kw_only=True)
class LrFind(Finetune):
    """Suggest a learning rate for a fine-tuning recipe, by a short sweep on a copy; no run is begun."""

    low: float = key(1e-6, "the first rate")
    high: float = key(1.0, "the last rate; the sweep ends before it when the loss explodes")
    sweep: int = key(100, "steps of the sweep; steps, epochs and minutes are those of the run it is for")
    figure: str | None = key("lr-find.png", "the picture to write (.png, .svg, .pdf); null draws none")

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "low", above=0)
        within(self, "sweep", low=20)
        within(self, "high", above=self.low)
        if self.figure and Path(self.figure).suffix not in (".png", ".svg", ".pdf"):
            raise ConfigError(f"figure={self.figure} must end with .png, .svg or .pdf")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a fine-tuned run on labelled images it has not seen."""

    run: str = key("", "the run folder")
    data: Any = key(None, "class folders, CSV or sample:elpv; classes are matched by name")
    bad: Literal["error", "skip"] = key("error", "what to do with files that cannot be decoded")
    batch: int = key(64, "images at a time")


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Classify images with a fine-tuned run."""

    run: str = key("", "the run folder")
    images: Any = key(None, "files, a folder, or arrays")
    batch: int = key(64, "images at a time")
    out: str | None = key(None, "a CSV to write; null prints")


@dataclass(frozen=True, kw_only=True)
class Rebalance:
    """Refit the last layer of a fine-tuned run so that every group counts alike."""

    run: str = key("", "the run folder")
    data: Any = key(None, "labelled images with groups that it has not learnt from; null takes its validation images")
    out: str = key("runs/rebalanced", "the run folder to write")


@dataclass(frozen=True, kw_only=True)
class Embed(Images):
    """Turn images into feature vectors with a pretrained or fine-tuned backbone."""

    bad: Literal["error", "skip"] = key("skip", "what to do with files that cannot be decoded")
    out: str | None = key(None, "an .npz (names, features) to write; null writes nothing")


@dataclass(frozen=True, kw_only=True)
class Augment(Images):
    """Draw a contact sheet of what an augmentation policy does to images."""

    policy: Any = key("ssl", "none, light, medium, strong, inspection, ssl, dino, mae")
    bad: Literal["error", "skip"] = key("skip", "what to do with files that cannot be decoded")
    rows: int = key(6, "images shown, one a row")
    count: int = key(8, "augmented versions of each")
    seed: int = key(0, "every random draw is a function of (seed, image)")
    out: str = key("sheet.png", "the picture to write")


@dataclass(frozen=True, kw_only=True)
class Study(Images):
    """Measure how many labels self-supervised pretraining is worth on your data."""

    unlabeled: Any = key(None, "photos to pretrain on; null takes the training images without their labels")
    objective: Any = key("simclr", "how to pretrain; options as objective.NAME=value", options=True)
    starts: list[Any] = key(
        ["scratch", "ssl", "imagenet", "imagenet+ssl"],
        "backbones compared; those with ssl are pretrained by the objective, imagenet+vicreg by another",
    )
    fractions: list[Any] = key([0.01, 0.05, 0.1, 0.25, 1.0], "shares of the training labels")
    seeds: int = key(3, "draws of labels for every start and share")
    folds: int = key(1, "quarters of the images held out in turn, each with its own pretraining: 4 halve the interval")
    seed: int = key(0, "of the test split and of pretraining")
    pretrain: dict[str, Any] = key({}, "further keys of pretrain, e.g. pretrain.minutes=10 pretrain.optim.lr=1e-4")
    finetune: dict[str, Any] = key({}, "further keys of finetune, e.g. finetune.steps=200 finetune.tune=probe")
    out: str = key("runs/study", "the run folder; what is finished in it is not done again")

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "seeds", low=1)
        within(self, "folds", low=1, high=4)
        for share in self.fractions:
            if not (isinstance(share, (int, float)) and 0 < share <= 1):
                raise ConfigError(f"fractions={share} makes no sense: shares lie above 0 and at most at 1")


@dataclass(frozen=True, kw_only=True)
class Search(Images):
    """Search for the keys of a fine-tuning recipe that do best on validation images."""

    over: dict[str, Any] = key(
        {"optim": {"lr": "1e-5..1e-3"}},
        "keys of finetune and what to try: a range (over.optim.lr=1e-5..1e-3, in logarithms where it spans ten times "
        "or more) or choices (over.tune=probe-then-full|layerwise)",
    )
    finetune: dict[str, Any] = key({}, "keys of finetune that all trials share, e.g. finetune.epochs=5")
    trials: int = key(20, "how many recipes to try, those of earlier calls included")
    minutes: float | None = key(None, "no trial begins after this time, that of earlier calls included")
    seed: int = key(0, "of the split, of every trial and of what is tried")
    refit: bool = key(False, "fine-tune with the best recipe at the end, and test it once")
    out: str = key("runs/search", "the run folder; the same command goes on, also with more trials or minutes")

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "trials", low=1)
        within(self, "minutes", above=0)
        within(self, "seed", low=0)


@dataclass(frozen=True, kw_only=True)
class Rank(Images):
    """Compare backbones on your labels before anything is trained."""

    backbones: list[Any] = key(
        ["tf_efficientnet_lite0", "resnet18", "vit_tiny_patch16_224"],
        "timm models or run folders; NAME@WEIGHTS for other weights than `weights` says",
    )
    by_group: bool = key(False, "keep groups (cameras, days, batches) whole, as finetune by_group=true does")
    seed: int = key(0, "of the test split, whose images are not looked at, as finetune deals it with this seed")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.backbones:
            raise ConfigError("backbones is empty; name some, e.g. backbones=[resnet18,runs/pretrain]")


@dataclass(frozen=True, kw_only=True)
class Advise(Images):
    """Say in a page which recipe to run on your labels, why, at what cost, and print the command."""

    unlabeled: Any = key(None, "photos without labels, for advice on pretraining")
    bad: Literal["error", "skip"] = key("skip", "what to do with files that cannot be decoded")
    backbone: str = key("tf_efficientnet_lite0", "a timm model, or a run folder to continue from")
    most: int = key(2000, "labelled images that are measured at most, the same share of every class")
    seed: int = key(0, "of the test split, whose images no measurement looks at, as finetune deals it with this seed")
    out: str | None = key(None, "an HTML report to write; null writes nothing")

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "most", low=10)
        within(self, "seed", low=0)


@dataclass(frozen=True, kw_only=True)
class Objectives:
    """List what can be pretrained for, on which backbones, and what an image of it takes in memory."""

    name: str = key("", "one of them, with its options; empty lists all")
    backbone: str = key("vit_tiny_patch16_224", "the timm model or run folder that memory is measured on")
    size: int = key(64, "side of the square the model sees, pixels")

    def __post_init__(self) -> None:
        within(self, "size", low=1)


@dataclass(frozen=True, kw_only=True)
class Quickstart:
    """Scan, probe, pretrain, fine-tune and report on the solar cells of the `samples` extra."""

    data: Any = key("sample:elpv", "any labelled source; the default comes with the samples extra")
    backbone: str = key("tf_efficientnet_lite0", "a timm model, or a run folder to continue from")
    weights: str = key("package:efficientnet-lite0", "timm, none, a file, a run folder, package:efficientnet-lite0")
    size: int = key(128, "side of the square the model sees, pixels")
    pretrain_minutes: float = key(1.2, "time for pretraining on the unlabeled training photos")
    finetune_minutes: float = key(1.8, "time for fine-tuning")
    seed: int = key(0, "every random draw is a function of (seed, step or image, rank)")
    out: str = key("runs/quickstart", "the run folder")
