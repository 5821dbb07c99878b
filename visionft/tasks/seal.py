"""What a finished fine-tuning run leaves in its folder: weights, adapters, answers, a report, and run.json last."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from visionft import chapters, checkpoint, config, parallel, runs
from visionft.adapters import files as adapters
from visionft.adapters.attach import merge
from visionft.atomic import replace
from visionft.evaluation.worth import Labelled
from visionft.log import Console
from visionft.recipe import Finetune
from visionft.train import Fitted, Metrics

from .learn import Learned, filled, images_of
from .parts import Parts
from .predictor import Predictor


@dataclass
class Finetuned:
    """A finished fine-tuning run, with what the report shows."""

    out: Path
    predictor: Predictor
    metrics: dict[str, Metrics]  # "probe", "knn" (the floor) and "finetuned", on the test images
    probabilities: dict[str, Tensor]  # of the test images, N C each
    test: Labelled
    decided: Metrics  # what the answers are worth, thresholds and sets included, on the test images
    val: Labelled
    validation: dict[str, Tensor] = field(default_factory=dict)  # probabilities of the images that choices look at
    fitted: Fitted | None = None  # of the network, or the first of several
    learned_share: float = 1.0  # of the way from start to end that was kept (`average`)
    seconds: float = 0.0


def seal(done: Finetuned, recipe: Finetune, parts: Parts, learned: Sequence[Learned], console: Console) -> None:
    """Write a run that has been measured; the networks of an ensemble are runs of their own."""
    out, several = done.out, len(learned) > 1
    names = [f"fold-{at}" for at in range(len(learned))] if several else ["."]
    for name, found in zip(names, learned, strict=True):
        if found.model.backbone.adapter is not None:
            _keep_adapter(out / name, found.model, console)
    parallel.wait()
    if parallel.rank():
        return
    replace(out / "answers.safetensors", lambda file: save_file(_answers(done), file))
    chapters.finetuning_report(
        out, parts.ready.scan, done.metrics, done.probabilities, done.test, curves=out / names[0],
        decided=(done.predictor.decision.words, done.decided),
    )  # fmt: skip
    info = _info(done, recipe, parts, learned[0].model)
    for name, found in zip(names, learned, strict=True):
        own = {"backbone": found.model.backbone.spec(), "fitted": found.fitted.facts() if found.fitted else None}
        if several:
            checkpoint.finish(out / name, found.model, {**_of_one(info), **own})
    if several:
        runs.seal(out, {**info, "networks": names})
    else:
        checkpoint.finish(out, learned[0].model, info)
    shutil.rmtree(out / "refit" / "resume", ignore_errors=True)


def _of_one(info: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json says of an ensemble, less what is true of the mean only."""
    return {key: value for key, value in info.items() if key not in ("metrics", "decision", "seconds")}


def _answers(done: Finetuned) -> dict[str, Tensor]:
    """Probabilities of test and validation images and their labels, for whoever measures something else."""
    answers = {f"test/{name}": p for name, p in done.probabilities.items()}
    answers |= {f"validation/{name}": p for name, p in done.validation.items()}
    labels = {"test/labels": done.test.labels, "validation/labels": done.val.labels}
    return {name: tensor.contiguous().clone() for name, tensor in {**answers, **labels}.items()}


def _keep_adapter(out: Path, model: Any, console: Console) -> None:
    """Write the adapter as a folder of its own, and leave a plain network where its weights can say the same."""
    backbone = model.backbone
    if parallel.rank() == 0:
        adapters.save(out / "adapter", backbone.net, backbone.adapter, model.head)
    if backbone.adapter.merges:
        merge(backbone)
        console.say(f"the adapter is merged into plain weights, and kept apart in {out / 'adapter'}")


def _info(done: Finetuned, recipe: Finetune, parts: Parts, model: Any) -> dict[str, Any]:
    name, options = config.named(config.plain(recipe)["task"], "task")
    return {
        "verb": "finetune",
        "task": {"name": name, **filled(type(model), parts), **options},
        "classes": list(done.predictor.classes),
        "images": images_of(recipe),
        "backbone": model.backbone.spec(),
        "start": str(model.backbone.loaded),
        "metrics": done.metrics,
        "decision": {**done.predictor.decision.facts(), "test": done.decided},
        "fitted": done.fitted.facts() if done.fitted else None,
        "share": done.learned_share,
        "seconds": done.seconds,
        "data": parts.ready.facts() | parts.sizes(),
        "versions": runs.versions(),
    }
