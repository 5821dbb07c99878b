"""What was done, in words: what learnt what, from which weights, how, how long, and what it cost."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from os import cpu_count
from typing import TYPE_CHECKING, Any

import torch

from visionft import config, norms
from visionft.evaluation.worth import Labelled
from visionft.fitted import Fitted
from visionft.folding import Norm
from visionft.log import clock
from visionft.recipe import Finetune
from visionft.report import Cell, Report

from .course import weights_of

if TYPE_CHECKING:
    from visionft.tasks.measure import Finetuned
    from visionft.tasks.predictor import Predictor

TUNED = {
    "probe": "a linear probe on frozen features, solved and not trained",
    "probe-then-full": "all layers, beginning with the head of a probe",
    "full": "all layers, beginning with a random head",
    "layerwise": "all layers, the slower the nearer to the stem",
    "soup": "all layers, in several networks whose weights were averaged",
    "gradual": "the last stage first, then one stage after the other",
    "norm": "the scales and shifts of norms",
    "bias": "biases",
}
FEW = {"last": "the last {} layers", "stage": "the last {} stages", "surgical": "the {} stage"}


def about(done: Finetuned) -> str:
    """One paragraph on the network, its images, its start, its way and its steps."""
    recipe, sizes, table = done.recipe, done.parts.sizes(), done.test.table
    model, moved, classes = done.predictor.model, done.learned[0].learnt, table.classes
    all_ = sum(p.numel() for p in model.parameters())
    named = f"{len(classes)} classes apart" if len(classes) > 6 else f"{', '.join(classes[:-1])} from {classes[-1]}"
    share = f"{_millions(moved)} of {_millions(all_)} weights ({moved / all_:.1%})"
    said = [
        f"{model.backbone.name} learnt to tell {named} on {sizes['train']:,} images of {table.source}, {recipe.size} x "
        f"{recipe.size} pixels; {sizes['val']:,} more served to choose by, {sizes['test']:,} were kept for the test.",
        f"It started from {done.start}.",
    ]
    fitted = done.fitted
    if fitted is None:
        return " ".join((*said, f"What learnt: {tuned(recipe.tune)}; {share}."))
    policy = recipe.policy if isinstance(recipe.policy, str) else "its own"
    return " ".join((
        *said,
        f"What learnt: {tuned(recipe.tune)}{_adapter(config.plain(recipe)['adapter'])}; {share}"
        f"{_norms(recipe, model)}. Augmentation: {policy}; batches of {recipe.batch}; {recipe.optim.name} at a rate of "
        f"{fitted.lr:g}.",
        _length(fitted, recipe),
        *_mean(done),
    ))  # fmt: skip


def tuned(choice: Any) -> str:
    """A recipe's `tune` in words."""
    word, _, number = str(choice).partition(":")
    if isinstance(choice, Mapping):
        return f"what a table of its own names ({', '.join(f'{k}: {v}' for k, v in choice.items())})"
    return TUNED.get(word) or (FEW[word].format(number) if word in FEW else f"tune={choice}")


def cost(report: Report, done: Finetuned) -> None:
    """Time by phase, speed, size, machine."""
    model, fitted = done.predictor.model, done.fitted
    device = model.backbone.mean.device
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values()) * len(done.learned)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} processor"
    facts: dict[str, Cell] = {name: clock(seconds) for name, seconds in done.phases.items()}
    facts["in all, before this report"] = clock(done.seconds)
    if fitted and fitted.seconds:
        facts["training, images/s"] = f"{fitted.steps * done.recipe.batch / fitted.seconds:.0f}"
    facts |= {
        "answering, ms/image": f"{1e3 * _pace(done.predictor, done.val):.1f}",
        "weights": _millions(sum(p.numel() for p in model.parameters()) * len(done.learned)),
        "size of the weights": f"{size / 1e6:.1f} MB",
        "machine": f"{machine}, {cpu_count()} cores, {torch.get_num_threads()} used",
    }
    report.heading("Cost")
    report.facts(facts)


def _pace(predictor: Predictor, images: Labelled) -> float:
    """Seconds that an answer takes in a batch, from decoded pixels, once everything is warm."""
    some = [images.pixels[i] for i in range(min(64, len(images.table)))]
    predictor.probabilities(some[:2])
    began = time.perf_counter()
    predictor.probabilities(some)
    return (time.perf_counter() - began) / len(some)


def _mean(done: Finetuned) -> list[str]:
    several = len(done.learned)
    said = [f"The answer is the mean of {several} such networks, each trained without another part of the images."]
    part = done.learned[0].share
    kept = [f"Kept were weights {part:.0%} of the way from start to end."] if part < 1 else []
    again = ["Then it learnt once more with the validation images."] if done.recipe.refit else []
    return [*(said if several > 1 else []), *kept, *again]


def _adapter(choice: Any) -> str:
    name, options = config.named(choice, "adapter")
    given = f" ({', '.join(f'{k}={v}' for k, v in options.items())})" if options else ""
    return "" if name == "none" else f", through the adapter {name}{given} beside frozen weights"


def _norms(recipe: Finetune, model: Any) -> str:
    if not any(isinstance(module, Norm) for module in model.modules()):
        return ""
    learnt = "recalibrated" if recipe.batchnorm == "recalibrate" else "in training"
    return f", batch norms {'frozen' if norms.stay(model, recipe) else learnt}"


def _length(fitted: Fitted, recipe: Finetune) -> str:
    end = f"stopped early ({fitted.stopped})" if fitted.stopped else "to the end"
    why = f"by {recipe.metric}" if recipe.patience else "which told more validation images right"
    kept = f"; {weights_of(fitted.best_step)} were kept, {why}" if recipe.patience or not fitted.best_step else ""
    return f"Training took {fitted.steps:,} steps and {clock(fitted.seconds)} in {fitted.precision}, {end}{kept}."


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:,}"
