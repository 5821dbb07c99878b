"""A run is one frozen dataclass: every key of every verb, with its default and its meaning."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field
from typing import Any, Literal

from .config import key
from .errors import ConfigError

KEPT = 1.5  # decoded images keep a short side of this many times the model's
BatchNorm = Literal["auto", "train", "frozen", "recalibrate"]
NORMS = (
    "frozen keeps statistics and affine weights of batch norms; auto does so if they come with the weights; "
    "recalibrate trains them, and measures their statistics on training images before every evaluation and at the end"
)


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
    lr: float | None = key(
        None,
        "peak learning rate, as used (no hidden scaling with the batch); null is 1e-4 (pretraining: 3e-4) for a "
        "network that came with weights, from random ones 3e-4 for a transformer and 1e-3 for others, and 1e-3 where "
        "only a head, an adapter, norms or biases learn",
    )
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
    batchnorm: BatchNorm = key("train", NORMS)
    sampler: Literal["natural", "balanced"] = key(
        "natural", "balanced draws every class as often as every other; a rare image then comes more often"
    )
    ema: float = key(0.0, "evaluate and save an average of the weights over this last share of the run; 0 is off")
    grow: float = key(1.0, "begin with images of this share of the size and grow to all of it in thirds of the run")
    log_every: int = key(10, "steps between lines of metrics.jsonl")
    eval_every: int = key(0, "steps between evaluations; 0: ten times a run, pretraining as often as costs little")
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
class Photos:
    """Where images come from and how they are read."""

    data: Any = key(None, "folder, class folders, CSV, list of paths or arrays, sample:elpv or sample:textile")
    channels: int = key(3, "channels the model sees; gray files feed 3 as well as 1")
    white: int = key(65535, "the value that is white in 16-bit files (4095 for 12-bit cameras)")
    bad: Literal["error", "skip"] = key("error", "what to do with files that cannot be decoded")
    cache: Literal["auto", "ram", "disk", "off"] = key("auto", "where decoded pixels are kept")
    backbone: str = key("resnet18", "a timm model, or a run folder to continue from")
    weights: str = key("auto", "timm, none, a file, a run folder, package:NAME; auto: an installed package, else timm")

    def __post_init__(self) -> None:
        within(self, "channels", "white", low=1)
        parent = getattr(super(), "__post_init__", None)
        if parent:
            parent()

    @property
    def edge(self) -> int | None:
        """The short side that decoded images keep, pixels; None keeps them as they are."""
        return None


@dataclass(frozen=True, kw_only=True)
class Images(Photos):
    """Images that a model sees as squares of one size."""

    size: int = key(128, "side of the square the model sees, pixels")

    def __post_init__(self) -> None:
        within(self, "size", low=1)
        super().__post_init__()

    @property
    def edge(self) -> int:
        """The short side that decoded images keep, pixels: so many times the model's that random crops stay sharp."""
        return round(self.size * KEPT)


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
    batchnorm: BatchNorm = key("auto", NORMS)
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
    report: bool = key(True, "write report.html, which takes some seconds more")
    folds: int = key(
        1, "networks, each trained without a fold of the images, by which it is chosen; the answer is their mean"
    )
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
    batchnorm: BatchNorm = key("frozen", NORMS)
    batch: int = key(32, "images per optimizer step, over all processes")
    epochs: float | None = key(None, "passes over the data; 10 when neither steps nor minutes is given")
    metric: str = key(
        "log_loss", "what early stopping and the best checkpoint watch; names with 'loss' in them go down"
    )
    patience: int = key(
        0,
        "evaluations without improvement before stopping, the best weights being kept; 0 keeps those of the end, which "
        "did better",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "test", low=0, below=1)
        within(self, "val", "coverage", above=0, below=1)
        within(self, "folds", low=1)
