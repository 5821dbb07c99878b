"""What a finished fine-tuning run leaves in its folder: weights, adapters, answers, a report, and run.json last."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from visionft import chapters, checkpoint, config, parallel, runs
from visionft.adapters import files as adapters
from visionft.adapters.attach import merge
from visionft.arrays import Floats
from visionft.atomic import replace
from visionft.log import Console
from visionft.recipe import Finetune
from visionft.retention import forgotten
from visionft.retention.chapter import chapter
from visionft.retention.forgotten import Before, Forgetting

from .learn import Learned, filled, images_of, told
from .measure import Finetuned
from .parts import Parts
from .predictor import Predictor

Rows = Sequence[Mapping[str, Any]]  # of the ladder


def seal(done: Finetuned, console: Console, *, ladder: Rows = (), before: Before | None = None) -> None:
    """Write a run that has been measured; the networks of an ensemble are runs of their own.

    What is forgotten of `before` is measured here, where an adapter has become part of plain weights if it can.
    """
    out = done.out
    keep_adapters(out, done.learned, console)
    parallel.wait()
    if parallel.rank():
        return
    lost = before and _forgotten(done, before, console)
    replace(out / "answers.safetensors", lambda file: save_file(_answers(done), file))
    if done.recipe.report:
        chapters.finetuning_report(done, ladder=ladder, more=[partial(chapter, found=lost)] if lost else [])
    info = _info(done) | ({"ladder": list(ladder)} if ladder else {})
    info |= {"forgetting": lost.facts()} if lost else {}
    finish(out, done.learned, info)


def finish(out: Path, learned: Sequence[Learned], info: dict[str, Any]) -> None:
    """Write the network of a run, or its networks, each a run of its own, and run.json last."""
    if len(learned) == 1:
        checkpoint.finish(out, learned[0].model, info)
    else:
        names = folders(learned)
        for name, found in zip(names, learned, strict=True):
            checkpoint.finish(out / name, found.model, _of_one(info, found))
        checkpoint.seal(out, {**info, "networks": names})
    shutil.rmtree(out / "refit" / "resume", ignore_errors=True)


def folders(learned: Sequence[Learned]) -> list[str]:
    """Where the networks of a run lie in its folder."""
    return ["."] if len(learned) == 1 else [f"fold-{at}" for at in range(len(learned))]


def _forgotten(done: Finetuned, before: Before, console: Console) -> Forgetting:
    def right() -> Floats:
        hits: Floats = (done.predictor.probabilities(done.val.pixels, quick=True).argmax(1) == done.val.labels).numpy()
        return hits

    found = forgotten.after(before, done.predictor.model, right)
    console.say(found.line())
    return found


def recall(recipe: Finetune, parts: Parts, features: Mapping[str, Tensor]) -> Finetuned:
    """A finished run as it was when it was sealed; `features` are those of its start."""
    out = Path(recipe.out)
    info, kept, predictor = runs.info(out), load_file(out / "answers.safetensors"), Predictor.load(out)
    answers: dict[str, dict[str, Tensor]] = {"test": {}, "validation": {}}
    for key, tensor in kept.items():
        part, _, name = key.partition("/")
        if name != "labels":
            answers[part][name] = tensor
    learned = [Learned.of(model, info) for model in predictor.networks]
    return Finetuned(
        recipe, parts, info["start"], predictor, info["metrics"], answers["test"], info["decision"]["test"],
        answers["validation"], learned, out / "fold-0" if len(learned) > 1 else out, features, info["phases"],
    )  # fmt: skip


def _of_one(info: Mapping[str, Any], found: Learned) -> dict[str, Any]:
    """The run.json of one network of an ensemble: less what is true of the mean only."""
    mean = ("metrics", "decision", "rules", "seconds", "phases", "ladder", "forgetting")
    return {key: value for key, value in info.items() if key not in mean} | found.facts()


def _answers(done: Finetuned) -> dict[str, Tensor]:
    """Probabilities of test and validation images and their labels, for whoever measures something else."""
    answers = {f"test/{name}": p for name, p in done.probabilities.items()}
    answers |= {f"validation/{name}": p for name, p in done.validation.items()}
    labels = {"test/labels": done.test.labels, "validation/labels": done.val.labels}
    return {name: tensor.contiguous().clone() for name, tensor in {**answers, **labels}.items()}


def keep_adapters(out: Path, learned: Sequence[Learned], console: Console) -> None:
    """Write adapters as folders of their own, and leave plain networks where their weights can say the same."""
    for name, model in zip(folders(learned), (found.model for found in learned), strict=True):
        backbone, own = model.backbone, out / name / "adapter"
        if backbone.adapter is None:
            continue
        if parallel.rank() == 0:
            adapters.save(own, backbone.net, backbone.adapter, model.head)
        if backbone.adapter.merges:
            merge(backbone)
            console.say(f"the adapter is merged into plain weights, and kept apart in {own}")


def _info(done: Finetuned) -> dict[str, Any]:
    name, options = config.named(config.plain(done.recipe)["task"], "task")
    task = filled(type(done.predictor.model), told(done.parts.train.table))
    return about(done.recipe, done.parts, done.start, done.learned[0]) | {
        "task": {"name": name, **task, **options},
        "classes": list(done.predictor.classes),
        "metrics": done.metrics,
        "decision": {**done.predictor.decision.facts(), "test": done.decided},
        "seconds": done.seconds,
        "phases": done.phases,
    }


def about(recipe: Finetune, parts: Parts, start: str, learned: Learned) -> dict[str, Any]:
    """What run.json says of any fine-tuning run: its images, its start, its training, its versions."""
    return {
        "verb": "finetune",
        "images": images_of(recipe),
        "start": start,
        **learned.facts(),
        "data": parts.ready.facts() | parts.sizes(),
        "versions": runs.versions(),
    }
