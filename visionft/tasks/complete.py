"""What a fine-tuning recipe may ask for: keys that contradict each other are refused before any image is read."""

from __future__ import annotations

import dataclasses
from typing import Any

from visionft import config, objective, tuning
from visionft.adapters.attach import check
from visionft.errors import ConfigError
from visionft.recipe import Finetune
from visionft.retention import remedies

EPOCHS = 10


def complete(recipe: Finetune) -> Finetune:
    """The recipe of one label an image, with a budget. Raises ConfigError for keys that cannot be."""
    objective.find(recipe.task, "task")
    if recipe.target is not None or config.named(recipe.task, "task")[0] == "heads":
        raise ConfigError("this learns one label an image; columns (target=) are learnt by `visionft finetune`")
    remedies.check(recipe)
    return budgeted(recipe)


def repeated(recipe: Finetune) -> dict[str, Any]:
    """For `plan`: how many trainings a run takes, and whether they share its minutes."""
    folds = recipe.folds > 1
    return {"trainings": recipe.folds if folds else 1 + recipe.refit, "shared": folds}


def idle(recipe: Finetune) -> list[str]:
    """The keys that were set to change what is trained, which a probe, being solved, has no use for."""
    task = {k: v for k, v in config.named(recipe.task, "task")[1].items() if (k, v) != ("balance", "logit")}
    return [*(["sampler"] if recipe.sampler != "natural" else []), *(f"task.{key}" for key, value in task.items()
            if value not in (0, "none"))]  # fmt: skip


def balanced(recipe: Finetune) -> bool:
    """Whether rare classes are to count as much as common ones in training."""
    return recipe.sampler == "balanced" or config.named(recipe.task, "task")[1].get("balance", "none") != "none"


def refitting(recipe: Finetune, best: int, more: float) -> Finetune:
    """The recipe of as many passes over `more` times as many images as `best` steps were; nothing is chosen by it."""
    steps = max(1, round(best * more))
    return dataclasses.replace(recipe, steps=steps, epochs=None, minutes=None, patience=0, average=False)


def budgeted(recipe: Finetune) -> Finetune:
    """The recipe with a budget, whatever it learns. Raises ConfigError for keys that cannot be."""
    tuning.check(recipe.tune)
    if recipe.folds > 1 and recipe.refit:
        raise ConfigError("folds and refit exclude each other: every training image is in most folds already")
    balance = config.named(recipe.task, "task")[1].get("balance", "none")
    if recipe.sampler == "balanced" and balance != "none":
        raise ConfigError(f"sampler=balanced and task.balance={balance} correct for rare classes twice; leave one out")
    if recipe.refit and recipe.average:
        raise ConfigError("refit ends with its own training, not a share of the way that average found; leave one out")
    adapted = recipe.adapter != "none"
    if adapted:
        check(recipe.adapter)
    trained = {"adapter": adapted, "folds": recipe.folds > 1, "refit": recipe.refit, "average": recipe.average}
    if recipe.tune == "probe" and any(trained.values()):
        key = next(name for name, asked in trained.items() if asked)
        raise ConfigError(f"tune=probe trains nothing that {key} could act on; leave tune out, or leave {key} out")
    if recipe.refit and recipe.optim.schedule == "plateau":
        raise ConfigError("refit has no validation images whose plateau the rate could wait for; leave one of them out")
    if recipe.average and recipe.tune == "full":
        raise ConfigError("average needs a start that answers already; take tune=probe-then-full")
    if adapted and config.named(recipe.task, "task")[1].get("drop_path"):
        raise ConfigError("task.drop_path acts on blocks whose own weights learn; beside an adapter none do")
    if recipe.steps or recipe.epochs or recipe.minutes:
        return recipe
    return dataclasses.replace(recipe, epochs=EPOCHS)
