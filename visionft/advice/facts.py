"""Everything that advice rests on, as plain numbers: the data, what frozen features can do, the machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Interval = tuple[float, float, float]  # a value, and the low and high end of its 95 % interval
Side = tuple[int, int]  # width, height


@dataclass(frozen=True, kw_only=True)
class Near:
    """Two images that look like copies of each other."""

    first: str
    second: str
    same_class: bool = True
    across: bool = False  # one is for testing by the source's own split, the other is not


@dataclass(frozen=True, kw_only=True)
class Data:
    """What the scan saw of the labelled images, those for testing included."""

    source: str
    classes: Mapping[str, int]  # class -> images
    parts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # the source's own split, if it has one
    sizes: tuple[Side, Side, Side] = ((128, 128),) * 3  # smallest, median, largest, width and height apart
    aspect: Interval = (1.0, 1.0, 1.0)  # width / height: median, and the range of nine images in ten
    gray: float = 0.0  # share of the images without colour
    deep: int = 0  # images of more than 8 bits
    white: int = 65535
    white_was_set: bool = False  # to what the camera's bits suggest, because the images looked dark
    bad: Mapping[str, str] = field(default_factory=dict)  # file -> why it cannot be read
    repeated: int = 0  # files whose content is there more than once
    conflicts: tuple[tuple[str, ...], ...] = ()  # copies with different labels
    leaks: tuple[tuple[str, ...], ...] = ()  # copies on both sides of the source's own split
    near: tuple[Near, ...] = ()
    groups: int = 0  # different values of the group column; 0 without one
    groups_across: int = 0  # groups on both sides of the source's own split
    by_group: bool = False  # whether groups were kept apart when images for testing were set aside

    @property
    def images(self) -> int:
        """How many can be used."""
        return sum(self.classes.values())

    @property
    def short(self) -> int:
        """The shorter side of the median image, pixels."""
        return min(self.sizes[1])


@dataclass(frozen=True, kw_only=True)
class AtSize:
    """The probe at one image size, on the images that all sizes were tried on."""

    size: int  # pixels
    probe: Interval
    gain: Interval  # over the size asked for, image by image
    ms: float  # milliseconds to compute the features of an image


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """An image that probe and neighbours, which were not shown its label, put into another class."""

    name: str
    label: str
    said: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What frozen features are worth, each image held out once; images for testing had no part in it."""

    images: int  # labelled images that all this stands on
    aside: int  # images set aside for the final test
    fewest: int  # images of the rarest class among those measured
    chance: Interval  # always naming the commonest class
    knn: Interval
    probe: Interval
    curve: tuple[tuple[int, float, float, float], ...] = ()  # labels learnt from, accuracy of the probe, its interval
    doubling: Interval | None = None  # what the last doubling of the labels brought
    recall: Mapping[str, float] = field(default_factory=dict)  # class -> share of it told right by the probe
    balanced: float = 0.0  # mean of these
    rebalancing: Interval | None = None  # how `balanced` moves when answers are divided by the classes' shares
    rebalanced_accuracy: float = 0.0  # and the plain accuracy then
    sizes: tuple[AtSize, ...] = ()  # the size asked for, and others if the images allow them
    new_groups: Interval | None = None  # accuracy of the probe on groups that it has not learnt from
    group_gap: Interval | None = None  # how much lower that is
    suspects: tuple[Suspect, ...] = ()
    shift: float | None = None  # mean distance of batch statistics from the weights' own, in standard deviations


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where training would run."""

    cores: int
    gpu: str = ""  # its name
    bf16: bool = False  # multiplied by the hardware
    memory: float = 0.0  # bytes that are free
    busy: bool = False  # other programs took much of it while times were measured


@dataclass(frozen=True, kw_only=True)
class Unlabeled:
    """The images without labels."""

    source: str
    images: int
    looked: int  # at so many of them
    bad: int = 0  # of those, cannot be read
    copies_of_test: int = 0  # of those, are images of the labelled source that are for testing
    shift: float | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything."""

    data: Data
    measured: Measured
    machine: Machine
    backbone: str
    weights: str = "auto"
    pretrained: bool = True  # the weights come from somewhere, and are not random
    transformer: bool = False
    size: int = 128
    channels: int = 3
    seed: int = 0
    unlabeled: Unlabeled | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)
