"""What pretraining refuses before it begins, with a way out, and what it warns of."""

from __future__ import annotations

import copy

import torch

from visionft.backbone import Backbone
from visionft.data.prepare import Prepared
from visionft.data.views import Views
from visionft.errors import ConfigError, VisionftError
from visionft.evaluation.worth import Labelled
from visionft.objective import Objective
from visionft.order import Draw
from visionft.recipe import Pretrain

PAIR = 2
FEWEST = 4  # two to train on, two to watch


def enough(ready: Prepared) -> None:
    """Raise ConfigError unless there are images that can be told apart."""
    different, source = len({record.digest for record in ready.table}), ready.table.source
    if different == 1 and len(ready.table) > 1:
        raise ConfigError(
            f"all {len(ready.table)} images of {source} are copies of one; pretraining learns from what differs "
            "between images, so name a folder of different ones"
        )
    if different < FEWEST:
        raise ConfigError(
            f"{source} has {different} usable image{'s that differ' if different > 1 else ''}; pretraining needs at "
            f"least {FEWEST}, and hundreds to be of use: add photos, or cut large ones into tiles"
        )


def filled(model: Objective, batch: int, parts: int, training: int, held: int) -> None:
    """Raise ConfigError where a batch would hold an image twice: a contrast with itself teaches the wrong thing.

    So would a part of a batch that leaves an objective which compares images a single one.
    """
    if not model.divides and batch // parts < PAIR:
        raise ConfigError(
            f"{type(model).__name__} compares the images of a batch, and batch={batch} in {parts} part"
            f"{'s' if parts > 1 else ''} leaves it one at a time: take a larger batch, or a smaller accumulate"
        )
    if batch > training:
        most = 2 ** (training.bit_length() - 1)
        fits = most if most % parts == 0 else training // parts * parts
        way = f"set batch={fits} or less" if fits else "add images"
        raise ConfigError(
            f"batch={batch} is more than the {training} images to train on ({held} more are held out to watch): {way}"
        )


def judged(labelled: Labelled) -> None:
    """Raise ConfigError unless every fold has something to hold out and something to learn from."""
    counts = torch.bincount(labelled.labels)
    if int((counts > 1).sum()) < 2:
        raise ConfigError(
            f"probe={labelled.table.source} has fewer than two classes with two images each, so that nothing can be "
            "held out: add labelled images, or leave probe= away"
        )


def enlarged(ready: Prepared, backbone: Backbone) -> str:
    """A warning where images are smaller than a patch.

    No error: some thumbnails among many photos must not stop a run, and enlarging is what users of small images want.
    """
    patch, low = backbone.side(0), min(ready.scan.sizes["min"])
    if low >= patch:
        return ""
    large = min(ready.scan.sizes["median"]) >= patch
    which = f"some images are only {low} pixels wide or high" if large else f"most images are only {low} pixels"
    way = "take them out if they are thumbnails" if large else "take a backbone with smaller patches, or a smaller size"
    return f"WARNING: {which}, less than the {patch} of a patch; they are enlarged, which adds no detail: {way}"


def drawn(recipe: Pretrain, training: Views) -> None:
    """Raise ConfigError where batched=yes cannot be had for every view."""
    if recipe.batched == "yes" and (alone := set(training.views) - set(training.recorders)):
        raise ConfigError(
            f"batched=yes cannot draw the views {', '.join(sorted(alone))}: their policy has steps that are no matrix "
            "products; batched=auto draws those image by image"
        )


@torch.no_grad()
def tried(model: Objective, training: Views) -> None:
    """Raise ConfigError where a loss cannot be computed of two images: better now than in a folder that is begun."""
    device = model.backbone.mean.device
    batch = {key: value.to(device) for key, value in training.collate([training[Draw(at)] for at in (0, 1)]).items()}
    try:
        copy.deepcopy(model).eval()(batch)
    except VisionftError:
        raise
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise unfit(type(model).__name__, model.backbone, error) from error


def unfit(name: str, backbone: Backbone, error: Exception) -> ConfigError:
    """What to say where an objective, a backbone and their options do not go together."""
    why = str(error).strip().partition("\n")[0]
    return ConfigError(
        f"{name} does not work on {backbone.name} at {backbone.size} pixels as asked ({type(error).__name__}: {why}); "
        "take another size, other views, other options or another objective (`visionft objectives`)"
    )
