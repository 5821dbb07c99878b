"""From measured facts to the recipes worth running, and to the command lines that say them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from .facts import Facts
from .rules import SATURATED, best_size, kind_of, rebalances
from .words import percent

Words = dict[str, Any]  # what the command line says, dotted

MEMORISED = 100, 8  # images in all, images of the rarest class: fewer are learnt by heart before they are understood
PERFECT = 0.995  # of the probe, at the low end: nothing is left to train for
BATCH = 32
EPOCHS, STEPS, LONGEST = 10, 60, 40  # passes; at least so many steps, in no more than so many passes
STUDIED = 1500  # photos: the smallest collection that pretraining was measured on
HOPELESS = 100  # photos
PRETRAINING = 120, 1000  # optimizer steps: what was measured to help, and where one pass over many photos ends
PRETRAIN_BATCH = 64


@dataclass(frozen=True)
class Choice:
    """A recipe, why, and what else was considered."""

    words: Words
    why: str


@dataclass(frozen=True)
class Pretraining:
    """Whether pretraining is worth trying."""

    worth: Literal["yes", "perhaps", "no"]
    why: str


def finetuning(facts: Facts) -> Choice:
    """What to run: how much of the network learns, on how large images, for how long."""
    measured, pixels = facts.measured, best_size(facts)
    training = round(measured.images * 0.85)
    words = _source(facts) | {"size": pixels}
    if facts.data.by_group:
        words["by_group"] = True
    if rebalances(facts):
        words["decide"] = "balanced"
    few = measured.images < MEMORISED[0] or measured.fewest < MEMORISED[1]
    if few or measured.probe[1] >= PERFECT:
        why = (
            f"{measured.images} labelled images, {measured.fewest} of the rarest class: whatever trains more than a "
            "classifier on top of the finished network would learn so few by heart."
            if few
            else f"The quick classifier is right in {percent(measured.probe)}: there is nothing left to train for."
        )
        return Choice(words | {"tune": "probe", "out": _out(facts)}, why)
    words["policy"] = policy(facts)
    if facts.transformer:
        words |= {"adapter": "lora"}
        how = "then small additions to the network are trained (LoRA), which suits transformers and few images"
    else:
        words |= {"tune": "probe-then-full"}
        how = "then the whole network is trained gently, starting from it"
    batch = min(BATCH, 1 << max(2, (training // 2).bit_length() - 1))
    passes = min(LONGEST, max(EPOCHS, -(-STEPS * batch // max(1, training))))
    words |= {"batch": batch, "epochs": passes, "out": _out(facts)}
    why = (
        f"First a classifier on top of the finished network, which already is right in {percent(measured.probe)}; "
        f"{how}. The run reports both on the {measured.aside} images set aside."
    )
    return Choice(words, why)


def quick(chosen: Words) -> Words:
    """The same without training the network: what to run while there is no time for more."""
    dropped = ("policy", "tune", "adapter", "batch", "epochs", "out")
    return {key: value for key, value in chosen.items() if key not in dropped} | {
        "tune": "probe",
        "out": f"{chosen['out']}-quick",
    }


def ladder(chosen: Words) -> Words | None:
    """The same, climbed to an ensemble as far as validation images say that it pays; None where nothing is trained."""
    return None if chosen.get("tune") == "probe" else chosen | {"tune": "auto", "out": f"{chosen['out']}-ladder"}


def policy(facts: Facts) -> str:
    """How training pictures are varied: gray and unlike everyday photos means a part under a camera, any way up."""
    industrial = facts.data.gray >= 0.99 and kind_of(facts.measured.shift) != "own"
    return "inspection" if industrial else "light"


def objective(facts: Facts) -> str:
    """How to pretrain: parts under a camera look alike, and SimCLR tells every photo from every other."""
    return "vicreg" if policy(facts) == "inspection" else "simclr"


def pretraining(facts: Facts) -> Pretraining:
    """Is self-supervised pretraining worth its minutes? The evidence is the studies that README reports."""
    photos = facts.unlabeled.images if facts.unlabeled else facts.data.images - facts.measured.aside
    which = f"{photos:,} unlabeled photos" if facts.unlabeled else f"{photos:,} training photos without their labels"
    known = (
        "Measured at 64 and 128 pixels: on clothes, objects and fashion items (3,068 to 6,000 photos) two and a half "
        "minutes of SimCLR raised the quick classifier by 1.4 to 6.8 points; four minutes on one core raised it by 1.0 "
        "(SimCLR) and 0.8 (VICReg) on solar cells, by 0.8 and 2.2 on fabric"
    )
    if not facts.pretrained:
        why = "From random weights a few minutes of it made solar cells worse (-4.7 points). Take pretrained weights."
        return Pretraining("no", why)
    if photos < HOPELESS:
        return Pretraining("no", f"{which} are too few; it was never measured to help below {STUDIED:,}.")
    if facts.measured.probe[1] >= SATURATED:
        return Pretraining(
            "no", f"The quick classifier is right in {percent(facts.measured.probe)}: too little is left to win."
        )
    if photos < STUDIED:
        return Pretraining("perhaps", f"With {which} it is open. {known}.")
    return Pretraining("yes", f"There are {which}. {known}.")


def pretrain_words(facts: Facts) -> Words | None:
    """A pretraining run on the unlabeled photos, by steps; None without any."""
    if facts.unlabeled is None:
        return None
    least, most = PRETRAINING
    batch = PRETRAIN_BATCH
    while batch > 4 and batch * 2 > facts.unlabeled.images:
        batch //= 2
    steps = min(most, max(least, facts.unlabeled.images // batch))
    source = {"data": facts.unlabeled.source, **_start(facts), **_reading(facts)}
    made = {"size": best_size(facts), "objective": objective(facts), "batch": batch, "steps": steps}
    return source | made | {"out": f"{_out(facts)}-pretrained"}


def after_pretraining(facts: Facts, chosen: Words) -> Words:
    """The chosen recipe, from the pretrained weights."""
    kept = {key: value for key, value in chosen.items() if key != "weights"}
    return kept | {"backbone": f"{_out(facts)}-pretrained", "out": f"{_out(facts)}-from-pretrained"}


def study_words(facts: Facts, minutes: float) -> Words:
    """The study that proves whether pretraining helps here."""
    unlabeled = {"unlabeled": facts.unlabeled.source} if facts.unlabeled else {}
    made = {"size": best_size(facts), "objective": objective(facts), "starts": "imagenet,imagenet+ssl",
            "fractions": "0.1,0.25,1.0"}  # fmt: skip
    cost = {"finetune.tune": "probe", "pretrain.minutes": max(1.0, round(minutes * 2) / 2)}
    return _source(facts) | unlabeled | made | cost | {"out": f"{_out(facts)}-study"}


def line(verb: str, words: Mapping[str, Any]) -> str:
    """A command that a shell and `visionft.cli` read back as these words."""
    return " ".join(["visionft", verb, *(shlex.quote(f"{key}={_yaml(value)}") for key, value in words.items())])


def _yaml(value: Any) -> str:
    """As the command line has to say a value, lest YAML reads `12`, `a: b` or `a #b` as something else."""
    if not isinstance(value, str):
        return yaml.safe_dump(value, default_flow_style=True).split("\n")[0]
    try:
        same = yaml.safe_load(value) == value
    except yaml.YAMLError:
        same = False
    return value if same else json.dumps(value, ensure_ascii=False)


def _source(facts: Facts) -> Words:
    """Where labelled images and weights come from."""
    bad = {"bad": "skip"} if facts.data.bad else {}
    seed = {"seed": facts.seed} if facts.seed else {}
    return {"data": facts.data.source, **_start(facts), **_reading(facts), **bad, **seed}


def _start(facts: Facts) -> Words:
    weights = {"weights": facts.weights} if facts.weights != "auto" else {}
    return {"backbone": facts.backbone, **weights}


def _reading(facts: Facts) -> Words:
    channels = {"channels": facts.channels} if facts.channels != 3 else {}
    white = {"white": facts.data.white} if facts.data.white != 65535 else {}
    return {**channels, **white}


def _out(facts: Facts) -> str:
    """A run folder named after the data."""
    name = Path(facts.data.source.removeprefix("sample:")).stem
    return f"runs/{re.sub('[^A-Za-z0-9]+', '-', name).strip('-').lower() or 'advised'}"
