"""Just enough torch.distributed: `torchrun` sets the environment, we read it; without it we are alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as td
from torch import Tensor, nn


def start() -> torch.device:
    """Join the process group that `torchrun` describes, if any, and return this process's device."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if "WORLD_SIZE" in os.environ and int(os.environ["WORLD_SIZE"]) > 1 and not td.is_initialized():
        td.init_process_group("nccl" if cuda else "gloo")
    return device


def wait() -> None:
    """Go on when every process has come this far."""
    if world() > 1:
        td.barrier()


@contextmanager
def alone() -> Iterator[None]:
    """Be the only process for a block, to everybody who asks torch (lightly's losses do): it waits for nobody."""
    with patch.object(td, "is_initialized", return_value=False):
        yield


def rank() -> int:
    """This process's number, 0 when alone."""
    return td.get_rank() if td.is_initialized() else 0


def world() -> int:
    """How many processes train together, 1 when alone."""
    return td.get_world_size() if td.is_initialized() else 1


def mean(values: dict[str, float]) -> dict[str, float]:
    """Average named numbers over the processes."""
    if world() == 1:
        return values
    total = torch.tensor(list(values.values()), dtype=torch.float64)
    return dict(zip(values, (_sum(total) / world()).tolist(), strict=True))


def agree(value: float) -> float:
    """What process 0 says: clocks differ, decisions must not."""
    if world() == 1:
        return value
    said = torch.tensor([value], dtype=torch.float64, device=_device())
    td.broadcast(said, 0)
    return float(said)


def told(value: Any) -> Any:
    """What process 0 says, in any length: numbers, strings, lists and dicts, as JSON keeps them."""
    if world() == 1:
        return value
    said = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(_device())
    length = int(agree(float(len(said))))
    said = said if rank() == 0 else said.new_empty(length)
    td.broadcast(said, 0)
    return json.loads(bytes(said.cpu().tolist()))


def follow(state: Mapping[str, Tensor]) -> None:
    """Take over process 0's values of these tensors, in place."""
    for tensor in state.values() if world() > 1 else ():
        td.broadcast(tensor, 0)


def any_of(claim: bool) -> bool:
    """Whether the claim holds on any process, known to all of them."""
    return bool(_sum(torch.tensor([float(claim)]))) if world() > 1 else claim


def _device() -> torch.device:
    return torch.device("cuda") if td.get_backend() == "nccl" else torch.device("cpu")


def _sum(x: Tensor) -> Tensor:
    x = x.to(_device())
    td.all_reduce(x)
    return x.cpu()


def synchronise(model: nn.Module) -> None:
    """Make every batch norm see the batch of all processes, so that N of them train what one would.

    torch's own SyncBatchNorm refuses CPUs, so the one formula here serves gloo and nccl alike.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
            module.forward = _Synced(module)  # type: ignore[method-assign, assignment]


class _Summed(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        td.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone()
        td.all_reduce(total)
        return total


def total(x: Tensor) -> Tensor:
    """The sum of every process's tensor, with gradients, as if one process had all samples; alone, the tensor."""
    return _Summed.apply(x) if world() > 1 else x


def gather(x: Tensor) -> Tensor:
    """B ... -> B*world ...: the rows of all processes in the order of one process's batch, with gradients."""
    if world() == 1:
        return x
    whole = x.new_zeros(world(), *x.shape)
    whole[rank()] = x
    return total(whole).flatten(0, 1)


class _Synced:
    """Batch norm over all processes, followed by whatever timm fused behind it (drop, activation)."""

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        self.norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        norm: Any = self.norm
        if not norm.training or not norm.track_running_stats or world() == 1:
            return type(norm).forward(norm, x)  # type: ignore[no-any-return]
        axes = [i for i in range(x.ndim) if i != 1]
        h = x if x.dtype == torch.float64 else x.float()
        count = _Summed.apply(h.new_tensor([h.numel() // h.shape[1]]))
        mean = _Summed.apply(h.sum(axes)) / count
        centred = h - mean.view(_row(h))
        var = _Summed.apply(centred.square().sum(axes)) / count
        with torch.no_grad():
            norm.num_batches_tracked += 1
            share = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, share)
            norm.running_var.lerp_(var * count / (count - 1), share)
        y = centred * (var + norm.eps).rsqrt().view(_row(h))
        y = (y * norm.weight.view(_row(h)) + norm.bias.view(_row(h))).to(x.dtype) if norm.affine else y.to(x.dtype)
        for after in ("drop", "act"):
            y = getattr(norm, after, nn.Identity())(y)
        return y  # type: ignore[no-any-return]


def _row(x: Tensor) -> tuple[int, ...]:
    return (1, x.shape[1], *[1] * (x.ndim - 2))
