"""What should I run on these images, why, and what will it cost? One page, from measurements that take a minute."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visionft import backbones
from visionft.advice import commands, cost, page, report
from visionft.advice.facts import Data, Facts, Machine, Near, Unlabeled
from visionft.advice.finding import Finding
from visionft.advice.measure import LARGER, Looked, distance, measured
from visionft.advice.page import Costs, Said
from visionft.advice.rules import findings
from visionft.backbone import Backbone
from visionft.data.cache import available_memory
from visionft.data.near import near_copies
from visionft.data.prepare import Chosen, Prepared, decoded, prepare
from visionft.data.records import Table
from visionft.data.scan import scan
from visionft.data.sources import read
from visionft.data.split import first_of_each
from visionft.errors import DataError
from visionft.evaluation.worth import Labelled
from visionft.log import Console
from visionft.precision import native_bf16
from visionft.recipe import Finetune
from visionft.tasks.parts import Parts
from visionft.verbs import Advise

from .ladder import NETWORKS

ENOUGH_GROUPS = 8  # different groups, so that some can be learnt from, chosen by and tested on
LEAST = 3  # images of a class: one to learn from, one to choose by, one to test on
COMPARED = 12_000  # images that copies are looked for among
LOOKED = 500  # unlabeled images that are opened
PATIENCE = 600  # seconds: a recipe that takes longer gets a quick one beside it
LABELLED, UNLABELED = "LABELLED", "UNLABELED"  # what a command says for images that were handed over as objects


@dataclass(frozen=True)
class Advice:
    """A page of advice; `findings`, `commands` and `facts` are its contents as plain values."""

    findings: list[Finding]
    commands: dict[str, str]  # "finetune", and where they make sense "pretrain", "finetune from pretrained", "study"
    facts: dict[str, Any]
    page: list[str]
    out: Path | None = None

    def lines(self) -> list[str]:
        """The page, for a terminal."""
        return self.page if self.out is None else [*self.page, "", f"report: {self.out}"]


def advise(recipe: Advise, *, console: Console | None = None) -> Advice:
    """Measure, judge by rules, and say which command to run; nothing is written unless `out` says where.

    Images that fine-tuning with the same seed will test on are scanned for damage and copies, and otherwise left alone.
    Raises DataError when there are too few images of a class, WeightsError when the backbone cannot be had.
    """
    console, began = console or Console(), time.perf_counter()
    backbone = backbones.load(recipe.backbone, recipe.weights, channels=recipe.channels, size=recipe.size)
    recipe, ready = _prepared(recipe, console)
    by_group = _by_group(ready.table)
    parts = Parts.deal(ready, Finetune(seed=recipe.seed, by_group=by_group))
    looked = _looked(recipe, ready, parts, by_group, console)
    data = _data(recipe, ready, by_group, console)
    found = measured(looked, backbone, recipe.size, data.short, console)
    facts = Facts(
        data=data,
        measured=found,
        machine=_machine(),
        backbone=recipe.backbone,
        weights=recipe.weights,
        pretrained=bool(backbone.loaded.loaded),
        transformer=hasattr(backbone.net, "blocks") and hasattr(backbone.net, "patch_embed"),
        size=recipe.size,
        channels=recipe.channels,
        seed=recipe.seed,
        unlabeled=_unlabeled(recipe, backbone, parts, console),
    )
    said = _said(facts, looked, ready, console, began)
    out = report.write(Path(recipe.out), said, ready, looked) if recipe.out else None
    return Advice(list(said.found), said.commands, facts.plain(), page.lines(said), out)


def _prepared(recipe: Advise, console: Console) -> tuple[Advise, Prepared]:
    """Clean records and pixels, with the white of the camera if the files are too dark without it."""
    ready = prepare(recipe, console, labelled=True)
    if white := ready.scan.suggested_white:
        console.say(f"taking white={white} from here on")
        recipe = dataclasses.replace(recipe, white=white)
        ready = prepare(recipe, Console(quiet=True), labelled=True)
    counts = Counter(record.label for record in ready.table)
    few = {name: counts[c] for c, name in enumerate(ready.table.classes) if counts[c] < LEAST}
    if few:
        told = ", ".join(f"{name!r} has {count}" for name, count in few.items())
        raise DataError(
            f"{ready.table.source} has too few usable images: {told}. Every class needs at least {LEAST}, one to learn "
            "from, one to choose by, one to test on; twenty or more are of use: add images, or leave the class out"
        )
    return recipe, ready


def _by_group(table: Table) -> bool:
    """Whether groups can be kept apart: enough of them, of every class, and no split given that says otherwise."""
    if not table.grouped or {"train", "test"} <= {record.split for record in table}:
        return False
    of = [{record.group for record in table if record.label == c} for c in range(len(table.classes))]
    return len(set(table.groups)) >= ENOUGH_GROUPS and min(map(len, of)) >= LEAST


def _looked(recipe: Advise, ready: Prepared, parts: Parts, by_group: bool, console: Console) -> Looked:
    """At most `most` images that are not for testing, the same share of every class, in the order of the data."""
    allowed = sorted([*parts.places["train"], *parts.places["val"]])
    share = min(1.0, recipe.most / len(allowed))
    places = [allowed[i] for i in first_of_each(ready.table.take(allowed), share, seed=recipe.seed, least=LEAST)]
    table, pixels = ready.part(places)
    counts = np.bincount(table.labels)
    if (counts > 1).sum() < 2:
        raise DataError(f"{table.source} leaves fewer than two classes with two images each, besides those for testing")
    short = min(ready.scan.sizes["median"])
    larger = dataclasses.replace(recipe, size=2 * recipe.size)
    fine = decoded(larger, table, console) if short >= LARGER * recipe.size else pixels
    return Looked(Labelled(table, pixels), fine, len(parts.places["test"]), by_group)


def _data(recipe: Advise, ready: Prepared, by_group: bool, console: Console) -> Data:
    table, seen = ready.table, ready.scan
    given = [part for part in ("train", "val", "test") if any(record.split == part for record in table)]
    counts = {part: Counter(r.label for r in table if r.split == part) for part in given}
    shapes = [ready.pixels[i].shape for i in range(0, len(table), max(1, len(table) // COMPARED))]
    aspect = np.quantile([width / height for height, width, *_ in shapes], [0.5, 0.05, 0.95])
    some = [ready.pixels[i] for i in np.linspace(0, len(table) - 1, min(200, len(table))).round().astype(int)]
    smallest, median, largest = (seen.sizes[name] for name in ("min", "median", "max"))
    sides = {g: {r.split == "test" for r in table if r.group == g} for g in {r.group for r in table if r.group}}
    return Data(
        source=_named(recipe.data, LABELLED),
        classes=seen.balance,
        parts={part: {name: found[c] for c, name in enumerate(table.classes)} for part, found in counts.items()},
        sizes=(smallest, median, largest),
        aspect=(float(aspect[0]), float(aspect[1]), float(aspect[2])),
        gray=float(np.mean([_is_gray(image) for image in some])),
        deep=seen.deep,
        white=seen.white,
        white_was_set=bool(seen.deep) and seen.white != 65535,
        bad=seen.bad,
        repeated=sum(map(len, seen.duplicates)),
        conflicts=seen.conflicts,
        leaks=seen.leaks,
        near=_near(ready, console),
        groups=len(sides),
        groups_across=sum(len(found) > 1 for found in sides.values()) if "test" in given else 0,
        by_group=by_group,
    )


def _is_gray(image: np.ndarray) -> bool:
    return image.shape[2] == 1 or bool((image == image[..., :1]).all())


def _near(ready: Prepared, console: Console) -> tuple[Near, ...]:
    """Pairs that look like copies, those of the same content apart, which the scan has found."""
    table = ready.table
    pixels = Chosen(ready.pixels, range(min(len(table), COMPARED)))
    found = near_copies(pixels, progress=console.progress("looking for copies"))
    pairs = ((table[a], table[b]) for a, b, _ in found if table[a].digest != table[b].digest)
    return tuple(
        Near(first=a.name, second=b.name, same_class=a.label == b.label,
             across=None not in (a.split, b.split) and (a.split == "test") != (b.split == "test"))
        for a, b in pairs
    )  # fmt: skip


def _machine() -> Machine:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    device = torch.device("cuda" if gpu else "cpu")
    return Machine(
        cores=os.cpu_count() or 1, gpu=gpu, bf16=native_bf16(device), memory=float(available_memory()), busy=_busy()
    )


def _busy() -> bool:
    """Whether more programs wanted to run in the last minute than there are cores, this one apart."""
    try:
        return os.getloadavg()[0] > (os.cpu_count() or 1) + 1
    except (OSError, AttributeError):  # Windows does not say
        return False


def _unlabeled(recipe: Advise, backbone: Backbone, parts: Parts, console: Console) -> Unlabeled | None:
    """Count the photos without labels and open some of them."""
    if recipe.unlabeled is None:
        return None
    photos = read(recipe.unlabeled, labelled=False)
    some = photos.take(np.linspace(0, len(photos) - 1, min(LOOKED, len(photos))).round().astype(int))
    found = scan(some, bad="skip", channels=recipe.channels, white=recipe.white, progress=console.progress("unlabeled"))
    testing = {record.digest for record in parts.test.table}
    pixels = decoded(dataclasses.replace(recipe, cache="off"), found.table, console)
    return Unlabeled(
        source=_named(recipe.unlabeled, UNLABELED),
        images=len(photos),
        looked=len(some),
        bad=len(found.bad),
        copies_of_test=sum(record.digest in testing for record in found.table),
        shift=distance(backbone, pixels),
    )


def _said(facts: Facts, looked: Looked, ready: Prepared, console: Console, began: float) -> Said:
    """Choose, and measure what the choice costs."""
    choice, worth = commands.finetuning(facts), commands.pretraining(facts)
    console.say("timing a training step")
    spent = cost.finetuning(facts, choice.words, looked)
    made, pre, fast = {"finetune": commands.line("finetune", choice.words)}, None, None
    if spent.seconds > PATIENCE:
        fast = cost.finetuning(facts, commands.quick(choice.words), looked)
        made["quick"] = commands.line("finetune", commands.quick(choice.words))
    if words := commands.ladder(choice.words):
        made["ladder"] = commands.line("finetune", words)
    if worth.worth != "no":
        words = commands.pretrain_words(facts)
        pre = cost.pretraining(facts, words, looked, ready)
        if words:
            again = commands.after_pretraining(facts, choice.words)
            made |= {
                "pretrain": commands.line("pretrain", words),
                "finetune from pretrained": commands.line("finetune", again),
            }
        made["study"] = commands.line("study", commands.study_words(facts, pre.seconds / 60))
    costs = Costs(spent, dataclasses.replace(spent, seconds=NETWORKS * spent.seconds), fast, pre)
    return Said(facts, findings(facts), choice, costs, worth, made, time.perf_counter() - began)


def _named(source: Any, otherwise: str) -> str:
    return str(source) if isinstance(source, (str, Path)) else otherwise
