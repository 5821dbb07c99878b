"""Which weights of a fine-tuning run should answer: the best evaluation, the first that nothing beats soon, the end?

python -m benchmarks.quality.stopping [--data elpv:200 elpv:500 elpv fashion:2000 clothing] [--epochs 10 30] [--seeds 3]
    [--shared FOLDER] [--out runs/stopping]

One run in which nothing stops is evaluated ten times, on validation images and on images that play the test; every rule
then picks an evaluation by the validation images alone. A default is to be chosen from this, so the test images of
other benchmarks are not looked at: those that play the test are a quarter of the rest, the same for every seed. Answers
have the temperature that validation images give. Finished runs in --out are not done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import write
from benchmarks.quality.label_efficiency import LITE, SIZES, fashion, source
from benchmarks.quality.rivals import bounded
from visionft.data.prepare import Prepared, dealt, prepare
from visionft.data.split import first_of_each
from visionft.evaluation.bootstrap import crossed
from visionft.evaluation.classification import losses
from visionft.evaluation.decision import Decision
from visionft.fitted import Metrics
from visionft.kernels import keep_memory
from visionft.log import Console
from visionft.recipe import Finetune
from visionft.tasks.complete import complete
from visionft.tasks.learn import Learned, begin, probed, start_of
from visionft.tasks.measure import asked
from visionft.tasks.parts import Parts
from visionft.train import fit

LOOKS = 10


@dataclass(frozen=True)
class Look:
    """What one evaluation says: on validation images, and image by image on those that play the test."""

    log_loss: float
    accuracy: float
    hits: list[int]
    losses: list[float]


def stopped(looks: Sequence[Look], patience: int) -> int:
    """Where the best log-loss lies when training ends after so many looks without a better one."""
    best = 0
    for at, look in enumerate(looks):
        if look.log_loss < looks[best].log_loss:
            best = at
        if at - best >= patience:
            break
    return best


RULES: dict[str, Callable[[Sequence[Look]], int]] = {
    "stop after 2": lambda looks: stopped(looks, 2),
    "stop after 4": lambda looks: stopped(looks, 4),
    "best log-loss": lambda looks: min(range(len(looks)), key=lambda at: looks[at].log_loss),
    "best accuracy": lambda looks: max(range(len(looks)), key=lambda at: looks[at].accuracy),
    "end": lambda looks: len(looks) - 1,
}


def looks_of(name: str, ready: Prepared, labels: int | None, epochs: float, seed: int, out: Path) -> list[Look]:
    """Train without a stop, and look ten times; the first look is at the probe's head that training begins with."""
    file = out / f"{name}-{labels}-{epochs:g}-{seed}.json"
    if not file.is_file():
        recipe = Finetune(
            backbone=LITE["backbone"], weights=LITE["weights"], size=SIZES[name], seed=seed, epochs=epochs, patience=0
        )  # fmt: skip
        parts = parts_of(ready, labels, recipe)
        recipe = complete(recipe)
        file.write_text(json.dumps([dataclasses.asdict(look) for look in trained(recipe, parts)]))
    return [Look(**look) for look in json.loads(file.read_text())]


def parts_of(ready: Prepared, labels: int | None, recipe: Finetune) -> Parts:
    """All but the images of the usual test, of which a quarter play the test here, and so many labels of the others."""
    pool = [at for at, record in enumerate(ready.table) if record.split != "test"]
    records = tuple(dataclasses.replace(ready.table[at], split=None) for at in pool)
    table = dataclasses.replace(ready.table, records=records)
    pixels = ready.part(pool)[1]
    aside = dealt(dataclasses.replace(ready, table=table, pixels=pixels), 0)
    own = [at for at, record in enumerate(aside.table) if record.split != "test"]
    share = min(1.0, labels / len(own)) if labels else 1.0
    kept = [own[at] for at in first_of_each(aside.table.take(own), share, seed=recipe.seed)]
    kept += [at for at, record in enumerate(aside.table) if record.split == "test"]
    some, few = aside.part(sorted(kept))
    return Parts.deal(dataclasses.replace(aside, table=some, pixels=few), recipe)


def trained(recipe: Finetune, parts: Parts) -> list[Look]:
    """Train, and note what every evaluation says of validation images and of those that play the test."""
    start = start_of(recipe)
    begun = begin(recipe, parts, start, probed(recipe, parts, start))
    predictor, looks = asked(recipe, parts, [Learned(begun.model)]), list[Look]()

    def look(model: Any) -> Metrics:
        metrics = begun.evaluate(model)
        held, other = (predictor.probabilities(p.pixels, quick=True).double().numpy() for p in (parts.val, parts.test))
        labels = parts.val.labels.numpy(), parts.test.labels.numpy()
        decision = Decision.fit(held, labels[0], predictor.classes, rule="likeliest", coverage=recipe.coverage)
        told = decision.calibrated(other)
        hits = (told.argmax(1) == labels[1]).astype(int).tolist()
        looks.append(Look(metrics["log_loss"], metrics["accuracy"], hits, losses(told, labels[1]).tolist()))
        return metrics

    look(begun.model.eval())
    steps = max(LOOKS, round((recipe.epochs or 1) * len(parts.train.table) / recipe.batch))
    recipe = dataclasses.replace(recipe, epochs=None, steps=steps, eval_every=-(-steps // LOOKS))
    fit(begun.learner, begun.images, recipe, evaluate=look)
    return looks


def row_of(name: str, labels: int | None, epochs: float, rule: str, runs: Sequence[Sequence[Look]]) -> dict[str, Any]:
    """What a rule's picks are worth, beside the end of the same runs."""
    picks = [RULES[rule](looks) for looks in runs]
    chosen = [looks[at] for looks, at in zip(runs, picks, strict=True)]
    hits, ends = (np.array([look.hits for look in some], np.float64) for some in (chosen, [r[-1] for r in runs]))
    return {
        "setting": f"{name}, {labels or 'all'} labels, {epochs:g} epochs", "dataset": name, "labels": labels,
        "epochs": epochs, "rule": rule, "seeds": len(runs), "picked": [at / LOOKS for at in picks],
        **bounded("accuracy", *crossed(hits)), **bounded("over_end", *crossed(hits - ends)),
        "log_loss": round(float(np.mean([look.losses for look in chosen])), 4),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Every setting in turn, a row for every rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = ["elpv:200", "elpv:500", "elpv", "fashion:2000", "clothing"]
    parser.add_argument("--data", nargs="+", default=usual, help="NAME or NAME:LABELS")
    parser.add_argument("--epochs", nargs="+", type=float, default=[10, 30])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/stopping"))
    words = parser.parse_args(arguments)
    words.out.mkdir(parents=True, exist_ok=True)
    keep_memory()
    for data in words.data:
        name, _, count = data.partition(":")
        labels = int(count) if count else None
        found = fashion(words.out / "fashion.csv") if name == "fashion" else source(name, words.shared, words.out)
        recipe = Finetune(data=found, size=SIZES[name], cache="ram")
        ready = dealt(prepare(recipe, Console(quiet=True), labelled=True), 0)
        for epochs in words.epochs:
            runs = [looks_of(name, ready, labels, epochs, seed, words.out) for seed in range(words.seeds)]
            rows = [row_of(name, labels, epochs, rule, runs) for rule in RULES]
            for row in rows:
                print(row, flush=True)
            command = f"python -m benchmarks.quality.stopping --data {data} --epochs {epochs:g} --seeds {words.seeds}"
            print(write("stopping", rows, command, by="setting"))


if __name__ == "__main__":
    main()
