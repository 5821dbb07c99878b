"""A run is one frozen dataclass: every key of every verb, with its default and its meaning."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .config import key
from .errors import ConfigError

NORMS = "frozen keeps statistics and affine weights of batch norms; auto does so if they come with the weights"


def within(recipe: Any, *names: str, **bounds: float) -> None:
    """Raise ConfigError unless these numbers (null is none) lie within low, high (included), above, below (not)."""
    holds = {"low": operator.ge, "high": operator.le, "above": operator.gt, "below": operator.lt}
    words = {"low": "at least", "high": "at most", "above": "above", "below": "below"}
    for name in names:
        value = functools.reduce(getattr, name.split("."), recipe)
        if value is not None and not all(holds[bound](value, limit) for bound, limit in bounds.items()):
            wanted = " and ".join(f"{words[bound]} {limit:g}" for bound, limit in bounds.items())
            raise ConfigError(f"{name}={value} makes no sense: it must be {wanted}")


@dataclass(frozen=True, kw_only=True)
class Optim:
    """How weights move."""

    name: Literal["adamw", "sgd", "lars"] = key("adamw", "the optimizer")
    lr: float = key(3e-4, "peak learning rate, as used (no hidden scaling with the batch)")
    weight_decay: float = key(0.05, "decoupled for adamw, L2 for sgd and lars; never on biases and norms")
    momentum: float = key(0.9, "of sgd and lars")
    schedule: Literal["cosine", "linear", "constant", "one-cycle", "exponential", "plateau"] = key(
        "cosine",
        "how the rate falls after the warm-up; one-cycle also rises by a cosine, while momentum falls; plateau falls "
        "when evaluations stop improving",
    )
    warmup: float = key(0.05, "share of the run in which the rate rises from 0 (one-cycle: from 1/25; take 0.25)")
    final: float = key(0.0, "share of the peak rate that is left at the end; exponential may rise to more than 1")
    plateau: int = key(2, "evaluations without a better `metric` before schedule=plateau lowers the rate")
    factor: float = key(0.3, "share of the rate that such a fall leaves")
    clip: float | None = key(1.0, "largest gradient norm; null does not clip")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the one training loop reads; the recipes of the verbs add where the data and the model come from."""

    steps: int | None = key(
        None, "optimizer steps; the first of steps, epochs and minutes that is reached ends the run"
    )
    epochs: float | None = key(None, "passes over the data")
    minutes: float | None = key(None, "time budget; schedules follow the clock")
    batch: int = key(64, "images per optimizer step, over all processes")
    accumulate: int = key(1, "equal parts a batch is computed in")
    precision: Literal["auto", "bf16", "fp32"] = key("auto", "auto times both on this machine and takes the faster")
    compile: bool = key(False, "torch.compile the objective (30-60 s first; pays on GPUs)")
    workers: int = key(0, "processes that load data; 0 is best on two cores with a cache")
    seed: int = key(0, "every random draw is a function of (seed, step or image, rank)")
    tune: Any = key(
        "full", "what learns: full, probe, last:K, stage:K, layerwise, layerwise:R, gradual, or a table {pattern: rate}"
    )
    batchnorm: Literal["auto", "train", "frozen"] = key("train", NORMS)
    sampler: Literal["natural", "balanced"] = key(
        "natural", "balanced draws every class as often as every other; a rare image then comes more often"
    )
    ema: float = key(0.0, "evaluate and save an average of the weights over this last share of the run; 0 is off")
    grow: float = key(1.0, "begin with images of this share of the size and grow to all of it in thirds of the run")
    log_every: int = key(10, "steps between lines of metrics.jsonl")
    eval_every: int = key(0, "steps between evaluations; 0 evaluates ten times a run")
    save_every: int = key(0, "steps between checkpoints; 0 saves at evaluations")
    metric: str = key("loss", "what early stopping and the best checkpoint watch; names with 'loss' in them go down")
    tensorboard: bool = key(False, "also write event files into the run folder (extra tensorboard)")
    patience: int = key(0, "evaluations without improvement before stopping; 0 never stops early")
    optim: Optim = field(default_factory=Optim, metadata={"meaning": "how weights move"})

    def __post_init__(self) -> None:
        if self.batch < 1 or self.accumulate < 1 or self.batch % self.accumulate:
            raise ConfigError(f"batch={self.batch} cannot be split into accumulate={self.accumulate} equal parts")
        within(self, "steps", "epochs", "minutes", "optim.lr", "optim.clip", above=0)
        within(self, "log_every", low=1)
        within(self, "grow", low=0.25, high=1)
        within(self, "workers", "eval_every", "save_every", "patience", "seed", "optim.weight_decay", low=0)
        within(self, "ema", "optim.warmup", "optim.momentum", low=0, high=1)
        exponential = self.optim.schedule == "exponential"
        within(self, "optim.final", **({"above": 0.0} if exponential else {"low": 0.0, "high": 1.0}))
        within(self, "optim.plateau", low=1)
        within(self, "optim.factor", above=0, below=1)


@dataclass(frozen=True, kw_only=True)
class Images:
    """Where images come from and how they are read."""

    data: Any = key(None, "folder, class folders, CSV, list of paths or arrays, sample:elpv or sample:textile")
    size: int = key(128, "side of the square the model sees, pixels")
    channels: int = key(3, "channels the model sees; gray files feed 3 as well as 1")
    white: int = key(65535, "the value that is white in 16-bit files (4095 for 12-bit cameras)")
    bad: Literal["error", "skip"] = key("error", "what to do with files that cannot be decoded")
    cache: Literal["auto", "ram", "disk", "off"] = key("auto", "where decoded pixels are kept")
    backbone: str = key("resnet18", "a timm model, or a run folder to continue from")
    weights: str = key("auto", "timm, none, a file, a run folder, package:NAME; auto: an installed package, else timm")

    def __post_init__(self) -> None:
        within(self, "size", "channels", "white", low=1)
        parent = getattr(super(), "__post_init__", None)
        if parent:
            parent()


@dataclass(frozen=True, kw_only=True)
class Pretrain(Images, Recipe):
    """Learn a backbone from images without labels."""

    objective: Any = key(
        "simclr", "a name from `visionft objectives`, or module:Class; options as objective.NAME=value", options=True
    )
    batched: Literal["auto", "yes", "no"] = key(
        "auto", "augment whole batches by matrix products, the same pictures; auto does so on a GPU"
    )
    views: dict[str, Any] = key({}, "overrides of the objective's views, e.g. views.crops.count=4")
    bad: Literal["error", "skip"] = key("skip", "what to do with files that cannot be decoded")
    probe: Any = key(None, "a small labelled source; kNN and linear probe are reported on it")
    batchnorm: Literal["auto", "train", "frozen"] = key("auto", NORMS)
    average: bool = key(True, "average the weights of start and end when starting from pretrained ones")
    out: str = key("runs/pretrain", "the run folder; an unfinished run in it is resumed")


@dataclass(frozen=True, kw_only=True)
class Finetune(Images, Recipe):
    """Teach a backbone a task from labelled images."""

    task: Any = key("classify", "what to learn; options as task.NAME=value", options=True)
    target: Any = key(
        None,
        "null learns the label; or columns of the CSV: a,b, each with a head of its own; target.a=classes, flags, "
        "number or levels where what is found in them should count as something else",
    )
    policy: Any = key("light", "augmentation: none, light, medium, strong, inspection, or an albumentations Compose")
    flips: bool = key(
        False, "answer with the mean over the image and its three mirror images; takes four times as long"
    )
    test: float = key(
        0.25, "share held out for the final evaluation, unless the source has a test split; 0 tests nothing"
    )
    val: float = key(0.15, "share of the rest that early stopping and choices look at")
    by_group: bool = key(
        False, "keep every group on one side of a split (parts, patients), instead of stratifying by it"
    )
    out: str = key("runs/finetune", "the run folder; an unfinished run in it is resumed")
    folds: int = key(1, "networks, each stopped by its own fold of the training images; the answer is their mean")
    refit: bool = key(False, "train once more on validation images, too, for as many steps as were best")
    average: bool = key(False, "keep the weights between start and end that validation images like best (WiSE-FT)")
    decide: Literal["auto", "likeliest", "balanced"] = key(
        "auto", "the answer: the likeliest class, or by thresholds for balanced accuracy; auto: those if one is rare"
    )
    coverage: float = key(0.9, "share of images whose set of plausible classes holds the truth; not one class: unsure")
    tune: Any = key(
        "probe-then-full",
        "auto climbs from a probe as far as it pays; or probe, probe-then-full, full (all but this begin with a "
        "probe's head), last:K, stage:K, layerwise, gradual, surgical:first, surgical:last, norm, bias, or a table "
        "{pattern: rate}",
    )
    adapter: Any = key(
        "none",
        "what learns beside a frozen network: lora, ssf, bottleneck, prompts, prefix, or module:function; options as "
        "adapter.NAME=value, such as adapter.last=0.25, the share of layers from the head's side",
        options=True,
    )
    keep: Any = key(
        "none",
        "against forgetting: l2sp, ewc, lwf, replay (a further term of the loss) or wise (between start and end); "
        "options as keep.NAME=value",
        options=True,
    )
    retained: Any = key(
        None, "images of what is to be kept, labels or not: half for remedies, half to report on what was forgotten"
    )
    batchnorm: Literal["auto", "train", "frozen"] = key("frozen", NORMS)
    batch: int = key(32, "images per optimizer step, over all processes")
    epochs: float | None = key(None, "passes over the data; 10 when neither steps nor minutes is given")
    metric: str = key(
        "log_loss", "what early stopping and the best checkpoint watch; names with 'loss' in them go down"
    )
    patience: int = key(4, "evaluations without improvement before stopping; 0 never stops early")
    optim: Optim = field(default_factory=lambda: Optim(lr=1e-4), metadata={"meaning": "how weights move"})

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "test", low=0, below=1)
        within(self, "val", "coverage", above=0, below=1)
        within(self, "folds", low=1)


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
        ["scratch", "ssl", "imagenet", "imagenet+ssl"], "backbones compared; those with ssl are pretrained"
    )
    fractions: list[Any] = key([0.01, 0.05, 0.1, 0.25, 1.0], "shares of the training labels")
    seeds: int = key(3, "draws of labels for every start and share")
    seed: int = key(0, "of the test split and of pretraining")
    pretrain: dict[str, Any] = key({}, "further keys of pretrain, e.g. pretrain.minutes=10 pretrain.optim.lr=1e-4")
    finetune: dict[str, Any] = key({}, "further keys of finetune, e.g. finetune.steps=200 finetune.tune=probe")
    out: str = key("runs/study", "the run folder; what is finished in it is not done again")

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "seeds", low=1)
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
