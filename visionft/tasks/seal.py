"""What a finished fine-tuning run leaves in its folder: weights, adapters, answers, a report, and run.json last."""

from __future__ import annotations

import dataclasses
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
from visionft.atomic import replace
from visionft.chapters.finetuning import Chapter, Story
from visionft.log import Console
from visionft.recipe import Finetune
from visionft.retention import forgotten
from visionft.retention.chapter import chapter
from visionft.retention.forgotten import Before, Forgetting
from visionft.train import Fitted

from .learn import Learned, build, filled, images_of, learning
from .measure import Finetuned
from .parts import Parts
from .predictor import Predictor

RUNGS = {"adapter": "probe-then-full", "soup": "layerwise", "folds": "layerwise"}  # how their networks are tuned
Rows = Sequence[Mapping[str, Any]]  # of the ladder


def seal(
    done: Finetuned, recipe: Finetune, parts: Parts, console: Console,
    *, ladder: Rows = (), before: Before | None = None,
) -> None:  # fmt: skip
    """Write a run that has been measured; the networks of an ensemble are runs of their own.

    What is forgotten of `before` is measured here, where an adapter has become part of plain weights if it can.
    """
    out, several = done.out, len(done.learned) > 1
    names = [f"fold-{at}" for at in range(len(done.learned))] if several else ["."]
    for name, found in zip(names, done.learned, strict=True):
        if found.model.backbone.adapter is not None:
            keep_adapter(out / name, found.model, console)
    parallel.wait()
    if parallel.rank():
        return
    lost = before and _forgotten(done, before, console)
    replace(out / "answers.safetensors", lambda file: save_file(_answers(done), file))
    if recipe.report:
        more = [partial(chapter, found=lost)] if lost else []
        chapters.finetuning_report(story(done, recipe, parts, ladder=ladder, more=more))
    info = _info(done, recipe, parts) | ({"ladder": list(ladder)} if ladder else {})
    info |= {"forgetting": lost.facts()} if lost else {}
    if not several:
        checkpoint.finish(out, done.learned[0].model, info)
    else:
        for name, found in zip(names, done.learned, strict=True):
            checkpoint.finish(out / name, found.model, _of_one(info, found))
        runs.seal(out, {**info, "networks": names})
    shutil.rmtree(out / "refit" / "resume", ignore_errors=True)


def _forgotten(done: Finetuned, before: Before, console: Console) -> Forgetting:
    says = partial(done.predictor.probabilities, done.val.pixels, quick=True)
    found = forgotten.after(before, done.predictor.model, says, done.val)
    console.say(found.line())
    return found


def story(done: Finetuned, recipe: Finetune, parts: Parts, *, ladder: Rows = (), more: Sequence[Chapter] = ()) -> Story:
    """What the report of a measured run tells; of a ladder, the rung that was chosen. Features come from the cache."""
    rung = next((row["rung"] for row in ladder if row["chosen"]), "")
    own, curves = recipe, done.out
    if rung:
        adapter = recipe.adapter if rung == "adapter" else "none"
        own = dataclasses.replace(recipe, tune=RUNGS.get(rung, rung), adapter=adapter)
        curves = done.out / "rungs" / rung
    if len(done.learned) > 1:
        curves = curves / "fold-0"
    start = build(own, parts)[0].backbone
    z = {name: getattr(parts, name).features(start, recipe.size) for name in ("train", "val", "test")}
    return Story(done, own, parts, str(start.loaded), curves, z, learning(own, parts), ladder, more)


def recall(out: Path, recipe: Finetune, parts: Parts) -> Finetuned:
    """A finished run as it was when it was sealed."""
    info, kept = runs.info(out), load_file(out / "answers.safetensors")
    predictor = Predictor.load(out)
    fitted = Fitted(**info["fitted"]) if info["fitted"] else None
    answers = {part: {key.removeprefix(f"{part}/"): p for key, p in kept.items() if key.startswith(f"{part}/")}
               for part in ("test", "validation")}  # fmt: skip
    for part in answers.values():
        part.pop("labels")
    return Finetuned(
        out, predictor, info["metrics"], answers["test"], parts.test, info["decision"]["test"], parts.val,
        answers["validation"], [Learned(model, fitted, info["share"]) for model in predictor.networks], info["seconds"],
    )  # fmt: skip


def _of_one(info: Mapping[str, Any], found: Learned) -> dict[str, Any]:
    """The run.json of one network of an ensemble: less what is true of the mean only."""
    common = {key: value for key, value in info.items() if key not in ("metrics", "decision", "seconds", "ladder")}
    return {**common, **_training(found)}


def _training(found: Learned) -> dict[str, Any]:
    fitted = found.fitted.facts() if found.fitted else None
    return {"backbone": found.model.backbone.spec(), "fitted": fitted, "share": found.share}


def _answers(done: Finetuned) -> dict[str, Tensor]:
    """Probabilities of test and validation images and their labels, for whoever measures something else."""
    answers = {f"test/{name}": p for name, p in done.probabilities.items()}
    answers |= {f"validation/{name}": p for name, p in done.validation.items()}
    labels = {"test/labels": done.test.labels, "validation/labels": done.val.labels}
    return {name: tensor.contiguous().clone() for name, tensor in {**answers, **labels}.items()}


def keep_adapter(out: Path, model: Any, console: Console) -> None:
    """Write the adapter as a folder of its own, and leave a plain network where its weights can say the same."""
    backbone = model.backbone
    if parallel.rank() == 0:
        adapters.save(out / "adapter", backbone.net, backbone.adapter, model.head)
    if backbone.adapter.merges:
        merge(backbone)
        console.say(f"the adapter is merged into plain weights, and kept apart in {out / 'adapter'}")


def _info(done: Finetuned, recipe: Finetune, parts: Parts) -> dict[str, Any]:
    name, options = config.named(config.plain(recipe)["task"], "task")
    model = done.predictor.model
    return {
        "verb": "finetune",
        "task": {"name": name, **filled(type(model), parts), **options},
        "classes": list(done.predictor.classes),
        "images": images_of(recipe),
        "start": str(model.backbone.loaded),
        "metrics": done.metrics,
        "decision": {**done.predictor.decision.facts(), "test": done.decided},
        **_training(done.learned[0]),
        "seconds": done.seconds,
        "data": parts.ready.facts() | parts.sizes(),
        "versions": runs.versions(),
    }
