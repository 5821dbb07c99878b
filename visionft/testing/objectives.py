"""The promises that objectives keep."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from visionft.folding import Norm
from visionft.objective import Objective


def check_objective(objective: Objective, batch: Mapping[str, Tensor]) -> None:
    """Raise AssertionError unless the objective is finite, deterministic, trainable, complete in its state, and pure.

    One that says that it `divides` must also give a batch the mean loss of its halves, and keep nothing of either.
    `batch` holds what `objective.sees` names, with at least two images, as the data set delivers it.
    """
    objective.train()
    before = {key: value.clone() for key, value in batch.items()}
    twin, resumed = copy.deepcopy(objective), copy.deepcopy(objective)
    if objective.divides:
        check_parts(copy.deepcopy(objective), batch)
    losses = [draw(o, batch, seed=0) for o in (objective, twin)]
    assert torch.equal(*losses), "the same weights, batch and seed must give the same loss"
    assert losses[0].ndim == 0 and losses[0].isfinite(), "`loss` must be one finite number"
    same = batch.keys() == before.keys() and all(_same(batch[key], before[key]) for key in before)
    assert same, "forward must not change its batch"

    losses[0].backward()
    silent = [n for n, p in objective.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent, f"no gradient reaches {', '.join(silent)}"
    reached = [p.grad for p in objective.backbone.parameters() if p.grad is not None]
    assert any(g.abs().sum() > 0 for g in reached), "the backbone learns nothing"
    fixed = [n for n, p in objective.named_parameters() if not p.requires_grad and p.grad is not None]
    assert not fixed, f"gradients reach fixed weights: {', '.join(fixed)}"

    objective.after_step(0.5)
    with torch.no_grad():
        for p in resumed.parameters():
            p.add_(1)  # whatever it held must come from the state dict alone
    resumed.load_state_dict(objective.state_dict())
    for progress in (0.6, 0.7):
        later = [draw(o, batch, seed=1) for o in (objective, resumed)]
        assert torch.equal(*later), "state_dict must be complete: a resumed objective gives another loss"
        objective.after_step(progress)
        resumed.after_step(progress)


@torch.no_grad()
def check_parts(objective: Objective, batch: Mapping[str, Tensor]) -> None:
    """Raise AssertionError unless parts of a batch may be computed one by one, and again."""
    norms = {f"{name}.{key}" for name, m in objective.named_modules() if isinstance(m, Norm) for key in m.state_dict()}
    before = {key: value.clone() for key, value in objective.state_dict().items() if key not in norms}
    draw(objective, batch, seed=0)
    after = objective.state_dict()
    traces = [key for key, value in before.items() if not torch.equal(value, after[key])]
    assert not traces, f"it says that it divides, but a forward pass leaves a trace in {', '.join(traces)}"
    objective.eval()  # batch norms and dropout are not its doing
    even = len(next(iter(batch.values()))) // 2 * 2
    halves = [
        {key: value[part] for key, value in batch.items()} for part in (slice(0, even // 2), slice(even // 2, even))
    ]
    whole = draw(objective, {key: value[:even] for key, value in batch.items()}, seed=0)
    parts = [draw(objective, half, seed=0) for half in halves]
    assert torch.allclose(whole, (parts[0] + parts[1]) / 2, rtol=1e-4), "its loss is not the mean of those of its parts"


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal, nan (which stands for what is not known) to nan."""
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def draw(objective: Objective, batch: Mapping[str, Tensor], *, seed: int) -> Tensor:
    """The loss under a fixed seed."""
    torch.manual_seed(seed)
    loss: Tensor = objective(batch)["loss"]
    return loss
