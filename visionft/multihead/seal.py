"""What a finished run of several heads leaves in its folder: weights, answers, a report, and run.json last."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from safetensors.torch import save_file

from visionft import config, parallel
from visionft.arrays import Floats
from visionft.atomic import replace
from visionft.log import Console
from visionft.retention import forgotten
from visionft.retention.chapter import chapter
from visionft.retention.forgotten import Before, Forgetting
from visionft.tasks.seal import about, finish, keep_adapters

from .chapter import write
from .judge import cost
from .run import Tuned


def seal(done: Tuned, console: Console, *, before: Before | None = None) -> None:
    """Write a run that has been measured; what is forgotten of `before` is measured here, on plain weights."""
    out = done.out
    keep_adapters(out, done.learned, console)
    parallel.wait()
    if parallel.rank():
        return
    lost = before and _forgotten(done, before, console)
    tensors = {f"test/{name}": torch.from_numpy(numbers.copy()) for name, numbers in done.said.items()}
    truth = torch.from_numpy(done.dealt.values(done.dealt.parts.test))
    replace(out / "answers.safetensors", lambda file: save_file({**tensors, "test/truth": truth}, file))
    if done.recipe.report:
        write(done, more=[partial(chapter, found=lost)] if lost else [])
    finish(out, done.learned, _info(done) | ({"forgetting": lost.facts()} if lost else {}))


def _forgotten(done: Tuned, before: Before, console: Console) -> Forgetting:
    dealt, val = done.dealt, done.dealt.parts.val

    def good() -> Floats:
        return -cost(dealt.targets, done.predictor.numbers(val.pixels, quick=True), dealt.values(val))

    found = forgotten.after(before, done.predictor.model, good, "minus the loss")
    console.say(found.line())
    return found


def _info(done: Tuned) -> dict[str, Any]:
    name, options = config.named(done.recipe.task, "task")
    return about(done.recipe, done.dealt.parts, str(done.predictor.model.backbone.loaded), done.learned[0]) | {
        "task": {"name": name, **options, "targets": [target.facts() for target in done.dealt.targets]},
        "metrics": done.metrics,
        "rules": {column: rule.facts() for column, rule in done.predictor.rules.items()},
        "seconds": done.seconds,
    }
