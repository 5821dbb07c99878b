"""The whole story on real photos in five minutes: scan, probe, pretrain, fine-tune, report."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

from torch import Tensor

from visionft import backbones, chapters, plots, runs
from visionft.atomic import write_text
from visionft.backbone import Backbone
from visionft.data.prepare import Prepared, dealt, prepare
from visionft.errors import ConfigError
from visionft.evaluation.classification import summarise
from visionft.evaluation.worth import Labelled, floor
from visionft.fitted import Metrics
from visionft.log import Console, clock
from visionft.pretraining.run import Pretrained, pretrain
from visionft.recipe import Finetune, Pretrain
from visionft.report import Report
from visionft.tasks.measure import Finetuned, line
from visionft.tasks.run import finetune
from visionft.verbs import Quickstart

PUBLISHED = {"SVM, Deitsch 2019": 0.824, "VGG19, Deitsch 2019": 0.884}
NOTE = (
    "95 % bootstrap intervals over the test images; one split and one seed, so stages whose intervals overlap are not "
    "proven different. The published figures are for these photos, but for their authors' own 75/25 split (Deitsch et "
    "al., Solar Energy 185, 2019)."
)


def quickstart(recipe: Quickstart | None = None, *, console: Console | None = None, quiet: bool = False) -> Finetuned:
    """Run the story and write `out` with a self-contained report.html; finished pretraining is not done again."""
    recipe, console, began = recipe or Quickstart(), console or Console(quiet=quiet), time.perf_counter()
    out = Path(recipe.out)
    if (out / "run.json").is_file():
        raise ConfigError(f"{out} holds a finished run; see {out / 'report.html'}, or set out= to another folder")
    budget = 60 * (recipe.pretrain_minutes + recipe.finetune_minutes)
    console.say(f"quickstart: about {clock(budget + 75)} on two cores, into {out}")
    ready = dealt(prepare(_finetune(recipe, recipe.backbone, recipe.weights), console, labelled=True), recipe.seed)
    story = _Story(recipe, ready, console)

    start = backbones.load(recipe.backbone, recipe.weights, size=recipe.size)
    console.say(f"1 of 3: the floor, from frozen features. Start: {start.loaded}")
    story.judge("probe", start, knn=True)
    console.say("2 of 3: pretraining on the training photos, without their labels")
    pre = _pretrained(recipe, story, start, console)
    console.say(f"3 of 3: fine-tuning from {pre.out if story.better_start() else recipe.backbone}")
    done = finetune(story.finetune(pre), console=console, prepared=ready)
    story.stages["fine-tuned"], story.answers["fine-tuned"] = done.metrics["finetuned"], done.probabilities["finetuned"]

    story.write(pre, done)
    console.say(f"report: {out / 'report.html'} ({clock(time.perf_counter() - began)} in all)")
    console.say(f"next: visionft predict {out} IMAGE...   or   visionft evaluate {out} data=DIR")
    return done


class _Story:
    """What every stage adds, on the same test images."""

    def __init__(self, recipe: Quickstart, ready: Prepared, console: Console) -> None:
        self.recipe, self.ready, self.console = recipe, ready, console
        self.train, self.test = (self._labelled(name) for name in ("train", "test"))
        self.stages: dict[str, Metrics] = {}
        self.answers: dict[str, Tensor] = {}
        self.losses: dict[str, float] = {}  # of the probe, cross-validated on training labels: what choices look at

    def _labelled(self, part: str) -> Labelled:
        return Labelled(*self.ready.part(i for i, r in enumerate(self.ready.table) if r.split == part))

    def judge(self, name: str, backbone: Backbone, *, knn: bool = False) -> None:
        """Probe (and kNN) on a backbone's frozen features, fitted on all training labels."""
        size = self.recipe.size
        z, z_test = (part.features(backbone, size, progress=self.console.progress("features"))
                     for part in (self.train, self.test))  # fmt: skip
        probe, answers = floor(z, self.train.labels, z_test, len(self.train.table.classes))
        if not knn:
            answers.pop("knn")
        for kind, p in reversed(answers.items()):
            label = kind if knn else name
            groups = self.test.table.groups if self.test.table.grouped else None
            self.stages[label] = summarise(p, self.test.labels, classes=self.test.table.classes, groups=groups)
            self.answers[label] = p
            self.console.say(f"  {label}: {line(self.stages[label])}")
        self.losses[name] = min(probe.cv.values())

    def better_start(self) -> bool:
        """Whether the pretrained backbone's probe has the lower loss on training labels, cross-validated."""
        return self.losses[AVERAGED] < self.losses["probe"]

    def finetune(self, pre: Pretrained) -> Finetune:
        """The recipe of the last stage, from the better start."""
        if self.better_start():
            return _finetune(self.recipe, str(pre.out), "auto")
        return _finetune(self.recipe, self.recipe.backbone, self.recipe.weights)

    def write(self, pre: Pretrained, done: Finetuned) -> None:
        """Make the report, and stages.json for those who read numbers."""
        write_text(done.out / "stages.json", json.dumps(self.stages, indent=2))
        info = runs.info(done.out)
        report = Report("visionft quickstart", f"{self.ready.table.source}: {' or '.join(self.train.table.classes)}?")
        groups = sorted(set(self.test.table.groups)) if self.test.table.grouped else []
        published = PUBLISHED if self.recipe.data == "sample:elpv" else {}
        chapters.stages(report, self.stages, groups, NOTE if published else NOTE.split(". The published")[0] + ".")
        names = list(self.stages)
        values, lows, highs = (
            [self.stages[n][k] for n in names] for k in ("accuracy", "accuracy_low", "accuracy_high")
        )
        report.figure(plots.interval_bars(names, values, lows, highs, published), "Accuracy on the test images")
        report.text(self._words(pre, done))
        chapters.finetuned(report, done)
        chapters.pretraining(report, pre.out, pre.verdict)
        report.heading("This run")
        report.facts({"seed": str(self.recipe.seed), "photos": len(self.ready.table), **info["versions"]})
        report.write(done.out / "report.html")

    def _words(self, pre: Pretrained, done: Finetuned) -> str:
        before, after = self.losses["probe"], self.losses[AVERAGED]
        start = "pretrained" if self.better_start() else "original"
        worth = runs.info(pre.out)["worth"]["words"]
        first = (
            f"Was pretraining worth it, by the training labels, cross-validated? {worth} The loss of the probe went "
            f"from {before:.4f} to {after:.4f}, so fine-tuning started from the {start} weights."
        )
        gain = self.stages["fine-tuned"]["accuracy"] - self.stages["probe"]["accuracy"]
        second = f"Fine-tuning changed the test accuracy by {100 * gain:+.1f} points over the probe on frozen features."
        return f"{first}\n\n{second}"


END, AVERAGED = "probe, pretrained", "probe, pretrained and averaged"


def _pretrained(recipe: Quickstart, story: _Story, start: Backbone, console: Console) -> Pretrained:
    out = Path(recipe.out) / "pretrain"
    made = Pretrain(
        data=recipe.data,
        size=recipe.size,
        backbone=recipe.backbone,
        weights=recipe.weights,
        minutes=recipe.pretrain_minutes,
        probe=f"the {len(story.train.table)} training labels",
        views={"views": {"scale": [0.4, 1.0]}},
        log_every=2,
        seed=recipe.seed,
        out=str(out),
    )
    if (out / "run.json").is_file():
        console.say(f"  {out} is finished already")
        info = runs.info(out)
        pre = Pretrained(out, backbones.load(str(out)), info["metrics"], info["verdict"], info["share"])
    else:
        photos = dataclasses.replace(story.ready, table=story.train.table, pixels=story.train.pixels)
        pre = pretrain(made, console=console, prepared=photos, labelled=story.train)
    if pre.end is not None:
        end = backbones.load(recipe.backbone, recipe.weights, size=recipe.size)
        end.net.load_state_dict(pre.end)
        story.judge(END, end)
    story.judge(AVERAGED, pre.backbone)
    return pre


def _finetune(recipe: Quickstart, backbone: str, weights: str) -> Finetune:
    return Finetune(
        data=recipe.data,
        size=recipe.size,
        backbone=backbone,
        weights=weights,
        minutes=recipe.finetune_minutes,
        policy="inspection",
        report=False,  # this journey's says it all
        log_every=4,
        seed=recipe.seed,
        out=recipe.out,
    )
