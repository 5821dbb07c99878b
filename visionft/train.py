"""The only training loop: everything that varies arrives as an objective, a data set or a recipe."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel as DDP  # noqa: N817  (the name everybody knows)
from torch.utils.data import Dataset

from . import checkpoint, optim, parallel, tuning
from .best import Best
from .checkpoint import Checkpoint
from .errors import ConfigError, DivergedError
from .feed import Batch, Feed
from .interrupt import interruptible
from .kernels import fast_kernels
from .objective import Objective
from .order import seed_of
from .precision import Precision
from .progressive import rehearse, share_at, shrunk
from .recipe import Recipe

Metrics = dict[str, float]


class Stop(Exception):  # noqa: N818  (a request, not an error)
    """Raised by `evaluate` to end the run here, in order: what was learned so far is kept."""

    def __init__(self, reason: str, metrics: Metrics | None = None) -> None:
        super().__init__(reason)
        self.metrics = metrics or {}


@dataclass
class Fitted:
    """How a run went."""

    steps: int
    seconds: float
    stopped: str  # why, when it ended before its time
    best_step: int  # the step whose weights were kept
    precision: str
    metrics: Metrics = field(default_factory=dict)  # of the weights that were kept
    last: dict[str, Tensor] | None = None  # the weights of the last step, where those of the best were kept

    def facts(self) -> dict[str, Any]:
        """Everything but weights, as plain JSON values."""
        return {name: value for name, value in vars(self).items() if name != "last"}


def fit(
    objective: Objective,
    data: Dataset[Any],
    recipe: Recipe,
    *,
    out: Path | None = None,
    evaluate: Callable[[Any], Metrics] | None = None,
    log: Callable[[int, Metrics], None] = lambda step, metrics: None,
) -> Fitted:
    """Train `objective` in place and say how it went.

    `evaluate(objective)` runs in eval mode and returns plain numbers; `log(step, metrics)` hears everything. With
    `out`, an interrupted run is resumed from its last checkpoint and ends with the weights of one that was not.
    Raises ConfigError before any work, DivergedError when a gradient is no longer finite.
    """
    device = parallel.start()
    run = Run(objective.to(device), data, recipe, device)
    with interruptible() as signalled, fast_kernels() as kernels:
        run.begin(checkpoint.resume(out) if out else None)
        kernels.fold(run.objective.backbone)
        model, batches = run.wrap(), run.batches()
        if recipe.patience and evaluate is not None and not run.step:
            log(0, run.examine(evaluate))  # the start stands for election too
        while not run.over:
            if run.thaw():
                kernels.fold(run.objective.backbone)
                model = run.wrap()
            losses = run.advance(model, batches)
            if run.due(recipe.log_every):
                log(run.step, parallel.mean({k: float(v) for k, v in losses.items()}) | run.pace())
            if run.due(run.eval_every) and evaluate is not None:
                log(run.step, run.examine(evaluate))
            asked = parallel.any_of(signalled())
            if out is not None and (run.due(recipe.save_every or run.eval_every) or asked):
                run.save(out)
            if asked:
                raise KeyboardInterrupt(f"stopped after step {run.step}; the same command goes on from here")
    return run.conclude()


def total_steps(recipe: Recipe, images: int) -> int | None:
    """Steps that `steps` and `epochs` ask for, the smaller; None when only the clock ends the run."""
    if not images:
        raise ConfigError("there are no images to train on")
    asked = [recipe.steps] if recipe.steps else []
    if recipe.epochs:
        asked.append(max(1, round(recipe.epochs * images / recipe.batch)))
    if not asked and not recipe.minutes:
        raise ConfigError("say how long to train: steps=, epochs= or minutes=")
    return min(asked) if asked else None


class Run:
    """Where a training run stands."""

    def __init__(self, objective: Objective, data: Any, recipe: Recipe, device: torch.device) -> None:
        self.objective, self.recipe, self.device = objective, recipe, device
        self.feed = Feed(data, recipe, device)
        self.total = total_steps(recipe, len(data))
        share = recipe.accumulate * parallel.world()
        if recipe.batch % share:
            raise ConfigError(f"batch={recipe.batch} cannot be dealt to {share} parts (accumulate x processes)")
        groups = tuning.groups(objective, recipe)
        self.optimizer = optim.build(groups, recipe.optim, device)
        self.learned = [p for group in groups for p in group["params"]]
        self.names = {id(p): name for name, p in objective.named_parameters()}
        self.average = optim.Average(objective, recipe.ema) if recipe.ema else None
        self.best, self.precision = Best(recipe.metric, recipe.patience), Precision()
        self.step, self.stopped, self.progress = 0, "", 0.0
        self.began, self.before, self.logged = time.perf_counter(), 0.0, (0, 0.0)

    def begin(self, found: Checkpoint | None) -> None:
        """Settle the modules, and either choose the arithmetic or become the run that wrote the checkpoint."""
        self.settle()
        self.objective.to(memory_format=torch.channels_last)
        if found:
            self.restore(found)
        else:
            self.precision = Precision.choose(self.recipe.precision, self.objective, self.feed.sample, self.device)
            self.precision.bf16 = bool(parallel.agree(self.precision.bf16))
            if self.recipe.grow < 1:
                rehearse(self.objective, self.feed.sample(2), self.recipe.grow)
        self.began = time.perf_counter()
        self.progress = self._progress()

    def settle(self) -> None:
        """Every module in the mode that it trains in."""
        tuning.settle(self.objective, norms_stay=tuning.norms_stay(self.objective, self.recipe))

    def thaw(self) -> bool:
        """Let what is due to learn by now learn; says whether there was any."""
        found = tuning.thaw(self.optimizer, self.progress)
        if found:
            self.settle()
        return found

    @property
    def over(self) -> bool:
        """Whether the run has ended, by its budget or by a request to stop."""
        return bool(self.stopped) or self.progress >= 1

    def _progress(self) -> float:
        """Share of the run that is done, by steps or by the clock, whichever is further; read once a step."""
        shares = [self.step / self.total] if self.total else []
        if self.recipe.minutes:
            shares.append(parallel.agree(self.elapsed / (60 * self.recipe.minutes)))
        return min(1.0, max(shares))

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before an interruption included."""
        return self.before + time.perf_counter() - self.began

    @property
    def eval_every(self) -> int:
        """Steps between evaluations."""
        return self.recipe.eval_every or max(1, (self.total or 500) // 10)

    def due(self, every: int) -> bool:
        """Whether what happens every so many steps, and at the end, happens now."""
        return self.over or self.step % every == 0

    def wrap(self) -> nn.Module:
        """The objective as it is called: compiled, and joined to the other processes."""
        model: Any = torch.compile(self.objective) if self.recipe.compile else self.objective
        if parallel.world() > 1:
            parallel.synchronise(self.objective)
            model = DDP(model)  # batch norms are synchronised: broadcasting their buffers changes nothing
        return model  # type: ignore[no-any-return]

    def batches(self) -> Iterator[Batch]:
        """Micro-batches on the device, from the first one that has not been trained on."""
        return self.feed.batches(self.step)

    def advance(self, model: nn.Module, batches: Iterator[Batch]) -> dict[str, Tensor]:
        """One optimizer step over `accumulate` micro-batches."""
        torch.manual_seed(seed_of(self.recipe.seed, self.step, parallel.rank()))
        middle = 0.5 / self.total if self.total else 0.0
        optim.set_rate(self.optimizer, min(1.0, self.progress + middle), self.recipe.optim)
        parts, mean = self.recipe.accumulate, dict[str, Tensor]()
        for part in range(parts):
            batch = self.grown(next(batches))
            waits = isinstance(model, DDP) and part < parts - 1
            with model.no_sync() if waits else contextlib.nullcontext():  # type: ignore[operator]
                with self.precision.autocast(self.device):
                    losses = model(batch)
                (losses["loss"] / parts).backward()
            mean = {name: mean.get(name, 0.0) + value.detach() / parts for name, value in losses.items()}
        norm = nn.utils.clip_grad_norm_(self.learned, self.recipe.optim.clip or math.inf)
        if not (torch.isfinite(norm) and torch.isfinite(mean["loss"])):
            said = {name: float(value) for name, value in mean.items()}
            way = f"try a third of optim.lr={self.recipe.optim.lr}"
            raise DivergedError(f"step {self.step + 1}: gradient norm is {float(norm)}, losses were {said}; {way}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.progress = self._progress()
        self.objective.after_step(self.progress)
        if self.average:
            self.average.update(self.objective, self.progress)
        return mean | {"grad_norm": norm.detach()}

    def grown(self, batch: Batch) -> Batch:
        """The batch with images as large as they are by now."""
        share = share_at(self.progress, self.recipe.grow)
        return batch if share == 1 else shrunk(batch, share, self.objective.backbone.side)

    def pace(self) -> Metrics:
        """Rate, speed and time left, for the log."""
        steps, at = self.logged
        now, progress = self.elapsed, self.progress
        self.logged = (self.step, now)
        return {
            "lr": max(float(group["lr"]) for group in self.optimizer.param_groups),
            "images_per_second": (self.step - steps) * self.recipe.batch / max(1e-9, now - at),
            "seconds": now,
            "seconds_left": now * (1 - progress) / max(1e-9, progress),
            "progress": progress,
        }

    def examine(self, evaluate: Callable[[Any], Metrics]) -> Metrics:
        """Evaluate what would be kept, on process 0, and agree on whether to go on."""
        metrics: Metrics = {}
        with optim.swapped(self.objective, self.average.state if self.average else None):
            self.objective.eval()
            if parallel.rank() == 0:
                try:
                    metrics = evaluate(self.objective)
                    self.stopped = self.best.see(self.step, metrics, self.objective)
                except Stop as stop:
                    self.stopped, metrics = str(stop), stop.metrics
        self.settle()
        if parallel.agree(float(bool(self.stopped))) and not self.stopped:
            self.stopped = "process 0 stopped"
        return metrics

    def save(self, out: Path) -> None:
        """Write a checkpoint, on process 0."""
        if parallel.rank():
            return
        states = {"average": self.average.state if self.average else None, "best": self.best.state}
        facts = {
            "elapsed": self.elapsed,
            "stopped": self.stopped,
            "best": self.best.facts(),
            "precision": self.precision.facts(),
            "averaged": self.average.progress if self.average else 0.0,
        }
        moments = checkpoint.optimizer_state(self.optimizer, self.names)
        extra = {name: state for name, state in states.items() if state}
        checkpoint.save(out, Checkpoint(self.step, self.objective.state_dict(), moments, extra, facts))

    def restore(self, found: Checkpoint) -> None:
        """Become the run that wrote this checkpoint."""
        facts = found.facts
        self.objective.load_state_dict(found.model)
        checkpoint.load_optimizer(self.optimizer, found.optimizer, self.names)
        self.step, self.stopped, self.before = found.step, facts["stopped"], facts["elapsed"]
        self.best = Best(self.recipe.metric, self.recipe.patience, **facts["best"], state=found.extra.get("best"))
        self.precision, self.logged = Precision(**facts["precision"]), (found.step, facts["elapsed"])
        if self.average:
            self.average.state = {name: tensor.to(self.device) for name, tensor in found.extra["average"].items()}
            self.average.progress = facts["averaged"]

    def conclude(self) -> Fitted:
        """Leave the objective with the weights worth keeping, in eval mode."""
        last = None
        if self.average:
            self.objective.load_state_dict(self.average.state)
        if self.best.state is not None:
            last = {name: tensor.detach().clone() for name, tensor in self.objective.state_dict().items()}
            self.objective.load_state_dict(self.best.state)
        self.objective.eval()
        step = self.best.step if self.best.state else self.step
        return Fitted(self.step, self.elapsed, self.stopped, step, str(self.precision), self.best.metrics, last)
