"""The end of a run: a decision fitted on held-out images, then the one look at the test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from visionft.arrays import Ints
from visionft.evaluation.classification import summarise
from visionft.evaluation.decision import Decision
from visionft.evaluation.worth import Labelled
from visionft.fitted import Fitted, Metrics
from visionft.log import Console
from visionft.recipe import Finetune

from .floor import Floor, Held
from .learn import Learned, images_of
from .parts import Parts
from .predictor import Predictor


@dataclass
class Finetuned:
    """A finished fine-tuning run, with what the report shows."""

    recipe: Finetune  # of the networks that answer
    parts: Parts
    start: str  # where the weights came from that training began with
    predictor: Predictor
    metrics: dict[str, Metrics]  # "probe", "knn" (the floor) and "finetuned", on the test images
    probabilities: dict[str, Tensor]  # of the test images, N C each
    decided: Metrics  # what the answers are worth, thresholds and sets included, on the test images
    validation: dict[str, Tensor]  # probabilities of the images that choices look at, M C each
    learned: Sequence[Learned]
    curves: Path  # the folder in which the network, or the first of several, was trained
    features: Mapping[str, Tensor] = field(default_factory=dict)  # of the frozen start: train, val and test, N D each
    phases: dict[str, float] = field(default_factory=dict)  # seconds

    @property
    def guess(self) -> Ints:
        """The answers to the test images, N."""
        return self.predictor.decision.choose(self.probabilities["finetuned"].double().numpy())

    @property
    def out(self) -> Path:
        """The run folder."""
        return Path(self.recipe.out)

    @property
    def test(self) -> Labelled:
        """The images of the last measurement."""
        return self.parts.test

    @property
    def val(self) -> Labelled:
        """The images that choices looked at."""
        return self.parts.val

    @property
    def fitted(self) -> Fitted | None:
        """How the training of the network, or of the first of several, went; None where it was solved."""
        return self.learned[0].fitted

    @property
    def seconds(self) -> float:
        """From reading the images to the test."""
        return sum(self.phases.values())


def measure(
    recipe: Finetune, parts: Parts, learned: Sequence[Learned], held: Held, low: Floor, console: Console
) -> Finetuned:
    """Decide how to answer by images that were held out, and judge that, beside the floor, on the test images."""
    predictor = asked(recipe, parts, learned)
    rule: Any = recipe.decide
    predictor.decision = Decision.fit(
        held.p.numpy(), held.labels.numpy(), predictor.classes,
        rule=rule, coverage=recipe.coverage, temper=held.own, groups=held.groups,
    )  # fmt: skip
    for words in predictor.decision.words:
        console.say(f"  {words}")
    answers = {**low.test, "finetuned": predictor.probabilities(parts.test.pixels)}
    metrics = {name: judge(p, parts.test) for name, p in answers.items()}
    console.say(f"  test, {recipe.tune}: {line(metrics['finetuned'])}")
    said, tested = answers["finetuned"].double().numpy(), len(parts.test.table) > 0
    decided = predictor.decision.judge(said, parts.test.labels.numpy()) if tested else {}
    trained = {} if recipe.tune == "probe" else {"finetuned": held.p}
    out = Path(recipe.out)
    return Finetuned(
        recipe, parts, str(learned[0].model.backbone.loaded), predictor, metrics, answers, decided,
        {**low.validation, **trained}, learned, out / "fold-0" if len(learned) > 1 else out, low.features,
    )  # fmt: skip


def asked(recipe: Finetune, parts: Parts, learned: Sequence[Learned]) -> Predictor:
    """The networks as one that answers, before any decision."""
    return Predictor([found.model for found in learned], parts.train.table.classes, images_of(recipe))


def judge(probabilities: Tensor, test: Labelled) -> Metrics:
    """Every metric of the likeliest class on labelled images; none where there are none."""
    if not len(test.table):
        return {}
    groups = test.table.groups if test.table.grouped else None
    return summarise(probabilities, test.labels, classes=test.table.classes, groups=groups)


def line(m: Metrics) -> str:
    """Accuracy with its interval, and AUROC, in words."""
    if not m:
        return "no test images"
    auroc = f", AUROC {m['auroc']:.3f}" if "auroc" in m else ""
    return f"accuracy {m['accuracy']:.3f} ({m['accuracy_low']:.3f} to {m['accuracy_high']:.3f}){auroc}"
