"""What a finished run of several heads leaves in its folder: weights, answers, a report, and run.json last."""

from __future__ import annotations

import shutil
from typing import Any

import torch
from safetensors.torch import save_file

from visionft import checkpoint, config, parallel
from visionft.atomic import replace
from visionft.log import Console
from visionft.tasks.seal import about, keep_adapter

from .chapter import write
from .run import Tuned


def seal(done: Tuned, console: Console) -> None:
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
    if done.recipe.report:
        write(done)
    checkpoint.finish(out, model, _info(done))
    shutil.rmtree(out / "refit" / "resume", ignore_errors=True)


def _info(done: Tuned) -> dict[str, Any]:
    name, options = config.named(done.recipe.task, "task")
    return about(done.recipe, done.dealt.parts, str(done.predictor.model.backbone.loaded), done.learned) | {
        "task": {"name": name, **options, "targets": [target.facts() for target in done.dealt.targets]},
        "metrics": done.metrics,
        "rules": {column: rule.facts() for column, rule in done.predictor.rules.items()},
        "seconds": done.seconds,
    }
