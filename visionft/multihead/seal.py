"""What a finished run of several heads leaves in its folder: weights, answers, a report, and run.json last."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import save_file

from visionft import checkpoint, parallel, runs
from visionft.atomic import replace
from visionft.log import Console
from visionft.recipe import Finetune
from visionft.tasks.learn import images_of
from visionft.tasks.seal import keep_adapter

from .chapter import write
from .run import Tuned


def seal(done: Tuned, recipe: Finetune, console: Console) -> None:
    """Write a run that has been measured."""
    out, model = done.out, done.learned.model
    if model.backbone.adapter is not None:
        keep_adapter(out, model, console)
    parallel.wait()
    if parallel.rank():
        return
    tensors = {f"test/{name}": torch.from_numpy(numbers.copy()) for name, numbers in done.said.items()}
    truth = torch.from_numpy(done.dealt.values(done.dealt.parts.test))
    replace(out / "answers.safetensors", lambda file: save_file({**tensors, "test/truth": truth}, file))
    if recipe.report:
        write(done)
    checkpoint.finish(out, model, _info(done, recipe))


def _info(done: Tuned, recipe: Finetune) -> dict[str, Any]:
    model, parts = done.learned.model, done.dealt.parts
    return {
        "verb": "finetune",
        "task": {**recipe.task, "targets": [target.facts() for target in done.dealt.targets]},
        "images": images_of(recipe),
        "start": str(model.backbone.loaded),
        "metrics": done.metrics,
        "rules": {column: rule.facts() for column, rule in done.predictor.rules.items()},
        "backbone": model.backbone.spec(),
        "fitted": done.fitted.facts() if done.fitted else None,
        "share": done.learned.share,
        "seconds": done.seconds,
        "data": parts.ready.facts() | parts.sizes(),
        "versions": runs.versions(),
    }
