"""The only training loop: everything that varies arrives as an objective, a data set or a recipe."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel as DDP  # noqa: N817  (the name everybody knows)
from torch.utils.data import Dataset

from . import checkpoint, memory, norms, optim, parallel, tuning
from .best import Best, Plateau
from .checkpoint import Checkpoint
from .errors import ConfigError, DivergedError
from .feed import Batch, Feed
from .fitted import Fitted, Metrics, Stop
from .interrupt import interruptible
from .kernels import fast_kernels
from .objective import Objective
from .order import seed_of
from .pace import Pace
from .precision import Precision
from .progressive import rehearse, share_at, shrunk
from .recipe import Recipe

TIMES = 10  # evaluations of a run, unless it says how often


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
    if run.plateau.watches and evaluate is None:
        raise ConfigError("optim.schedule=plateau has no evaluations to watch here; take another schedule")
    with interruptible() as signalled, fast_kernels() as kernels:
        run.begin(checkpoint.resume(out) if out else None)
        kernels.fold(run.objective.backbone)
        model = run.wrap()
        if (recipe.patience or run.plateau.watches) and evaluate is not None and not run.step:
            log(0, run.examine(evaluate))  # the start stands for election too
        while not run.over:
            if run.thaw():
                kernels.fold(run.objective.backbone)
                model = run.wrap()
            parts, losses = run.feed.parts, run.advance(model)
            if run.feed.parts > parts:
                log(run.step, {"accumulate": float(run.feed.parts)})  # memory ran out
            if run.due(recipe.log_every):
                log(run.step, parallel.mean({k: float(v) for k, v in losses.items()}) | run.lap())
            if run.judged and evaluate is not None:
                log(run.step, run.examine(evaluate))
            asked = parallel.any_of(signalled())
            if out is not None and (asked or (run.due(recipe.save_every) if recipe.save_every else run.judged)):
                run.save(out)
            if asked:
                raise KeyboardInterrupt(f"stopped after step {run.step}; the same command goes on from here")
    return run.conclude()


class Run:
    """Where a training run stands."""

    def __init__(self, objective: Objective, data: Any, recipe: Recipe, device: torch.device) -> None:
        self.objective, self.recipe, self.device = objective, recipe, device
        self.feed = Feed(data, recipe, device)
        self.clock = Pace(recipe, len(data))
        share = recipe.accumulate * parallel.world()
        if recipe.batch % share:
            raise ConfigError(f"batch={recipe.batch} cannot be dealt to {share} parts (accumulate x processes)")
        self.lr, groups = tuning.rate(objective, recipe), tuning.groups(objective, recipe)
        self.optimizer = optim.build(groups, recipe.optim, device)
        self.learned = [p for group in groups for p in group["params"]]
        self.names = {id(p): name for name, p in objective.named_parameters()}
        self.average = optim.Average(objective, recipe.ema) if recipe.ema else None
        self.best, self.precision = Best(recipe.metric, recipe.patience), Precision()
        self.plateau = Plateau(recipe)
        self.settle = functools.partial(norms.settle, objective, stay=norms.stay(objective, recipe))
        self.recalibrate = norms.recalibration(objective, self.feed, recipe)
        self.step, self.stopped, self.progress, self.earlier = 0, "", 0.0, 0.0
        self.rehearsed: tuple[float, ...] = ()

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
        self.clock.start(self.step, self.clock.before)
        self.feed.begin(self.step)
        self.progress = self.clock.progress(self.step)

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

    @property
    def judged(self) -> bool:
        """Whether an evaluation is due: every so many steps or ten times a run, and at the end."""
        total = self.clock.total
        if not self.recipe.eval_every and not total:  # by the clock
            return self.over or int(TIMES * self.progress) > int(TIMES * self.earlier)
        return self.due(self.recipe.eval_every or max(1, (total or 0) // TIMES))

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

    def advance(self, model: nn.Module) -> dict[str, Tensor]:
        """One optimizer step; its batch is computed in smaller parts from now on if memory does not suffice."""
        middle = 0.5 / self.clock.total if self.clock.total else 0.0
        optim.set_rate(self.optimizer, min(1.0, self.progress + middle), self.recipe.optim, self.plateau.share)
        if parallel.world() > 1:
            self.rehearse()
        mean = memory.fitted(lambda: self.gradient(model), self.shrink)
        norm = nn.utils.clip_grad_norm_(self.learned, self.recipe.optim.clip or math.inf)
        if not (torch.isfinite(norm) and torch.isfinite(mean["loss"])):
            said, way = {name: float(value) for name, value in mean.items()}, f"try a third of optim.lr={self.lr:g}"
            raise DivergedError(f"step {self.step + 1}: gradient norm is {float(norm)}, losses were {said}; {way}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.earlier, self.progress = self.progress, self.clock.progress(self.step)
        self.objective.after_step(self.progress)
        if self.average:
            self.average.update(self.objective, self.progress)
        return mean | {"grad_norm": norm.detach()}

    def gradient(self, model: nn.Module) -> dict[str, Tensor]:
        """Compute the gradient of one batch, part by part; returns the mean losses."""
        torch.manual_seed(seed_of(self.recipe.seed, self.step, parallel.rank()))
        parts, mean = self.feed.parts, dict[str, Tensor]()
        for part in range(parts):
            batch = self.grown(next(self.feed))
            waits = isinstance(model, DDP) and part < parts - 1
            with model.no_sync() if waits else contextlib.nullcontext():  # type: ignore[operator]
                losses = self.backward(model, batch, parts)
            mean = {name: mean.get(name, 0.0) + value.detach() / parts for name, value in losses.items()}
        return mean

    def backward(self, model: nn.Module, batch: Batch, parts: int = 1) -> dict[str, Tensor]:
        """Add a part's share of the gradient; returns its losses."""
        with self.precision.autocast(self.device):
            losses: dict[str, Tensor] = model(batch)
        (losses["loss"] / parts).backward()
        return losses

    def shrink(self) -> None:
        """Deal the batch of this step out again, in smaller parts."""
        memory.release(self.objective)
        self.feed.parts = memory.smaller(self.feed.parts, self.recipe.batch, self.objective)
        self.feed.begin(self.step)

    def rehearse(self) -> None:
        """Shrink parts until every process has the memory for one, wherever a step may need more than those before."""
        learning, moments = sum(p.requires_grad for p in self.learned), len(self.optimizer.state)
        needs = (share_at(self.progress, self.recipe.grow), learning, moments)
        while needs != self.rehearsed:
            batch = self.grown(self.feed.sample(self.feed.share))
            if memory.fits(functools.partial(self.backward, self.objective, batch), self.objective):
                self.rehearsed = needs
            else:
                self.shrink()

    def grown(self, batch: Batch) -> Batch:
        """The batch with images as large as they are by now."""
        share = share_at(self.progress, self.recipe.grow)
        return batch if share == 1 else shrunk(batch, share, self.objective.backbone.side)

    def lap(self) -> Metrics:
        """Rate, speed and time left, for the log."""
        rate = max(float(group["lr"]) for group in self.optimizer.param_groups)
        return {"lr": rate, **self.clock.lap(self.step, self.progress)}

    def examine(self, evaluate: Callable[[Any], Metrics]) -> Metrics:
        """Evaluate what would be kept, on process 0, and agree on whether to go on."""
        metrics: Metrics = {}
        with optim.swapped(self.objective, self.average.state if self.average else None):
            self.recalibrate()
            self.objective.eval()
            if parallel.rank() == 0:
                try:
                    metrics = evaluate(self.objective)
                    self.plateau.see(metrics)
                    self.stopped = self.best.see(self.step, metrics, self.objective)
                except Stop as stop:
                    self.stopped, metrics = str(stop), stop.metrics
        self.settle()
        if parallel.agree(float(bool(self.stopped))) and not self.stopped:
            self.stopped = "process 0 stopped"
        self.plateau.share = parallel.agree(self.plateau.share)
        return metrics

    def save(self, out: Path) -> None:
        """Write a checkpoint, on process 0."""
        if parallel.rank():
            return
        states = {"average": self.average.state if self.average else None, "best": self.best.state}
        facts = {
            "elapsed": self.clock.elapsed,
            "stopped": self.stopped,
            "parts": self.feed.parts,
            "plateau": self.plateau.facts(),
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
        self.step, self.stopped, self.clock.before = found.step, facts["stopped"], facts["elapsed"]
        self.feed.parts = facts["parts"]
        self.best = Best(self.recipe.metric, self.recipe.patience, **facts["best"], state=found.extra.get("best"))
        self.precision, self.plateau = Precision(**facts["precision"]), Plateau(self.recipe, **facts["plateau"])
        if self.average:
            self.average.state = {name: tensor.to(self.device) for name, tensor in found.extra["average"].items()}
            self.average.progress = facts["averaged"]

    def conclude(self) -> Fitted:
        """Leave the objective with the weights worth keeping, in eval mode: on all processes process 0's."""
        last, best = None, self.best
        if self.average:
            self.objective.load_state_dict(self.average.state)
        self.recalibrate()
        if parallel.agree(float(best.state is not None)):
            last = {name: tensor.detach().clone() for name, tensor in self.objective.state_dict().items()}
            self.objective.load_state_dict(best.state or last)
            parallel.follow(self.objective.state_dict())
        self.objective.eval()
        step, metrics = parallel.told([best.step if best.state else self.step, best.metrics])
        how = self.clock.elapsed, self.stopped, step, str(self.precision), self.lr
        return Fitted(self.step, *how, metrics, self.feed.parts, last)
