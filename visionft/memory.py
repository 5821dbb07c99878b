"""When a batch does not fit into memory: the same step again, in smaller parts that add up to the same gradient."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from . import parallel
from .errors import ConfigError
from .folding import Norm

T = TypeVar("T")
SIGNS = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")  # of a plain RuntimeError that is about memory


def ran_out(error: RuntimeError) -> bool:
    """Whether this is a lack of memory: of a GPU, or of the machine, which torch tells by words alone."""
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in SIGNS)


def fitted(attempt: Callable[[], T], shrink: Callable[[], None]) -> T:
    """What `attempt` returns, once it fits: every time that memory runs out, `shrink` is called and it tries again.

    One of several processes cannot try again by itself: the others have gone on.
    """
    while True:
        try:
            return attempt()
        except RuntimeError as error:
            if parallel.world() > 1 or not ran_out(error):
                raise
        shrink()  # after the error is gone: its traceback holds what the attempt had allocated


def smaller(parts: int, batch: int, objective: Any) -> int:
    """The next number of equal parts, at least twice as many, that a batch can be computed in.

    Raises ConfigError where the gradient would not be the same: the loss compares images with each other, or batch
    norms learn from them; and where a part is a single image already.
    """
    images = f"{batch // parts // parallel.world()} images at a time do not fit into memory"
    if not objective.divides:
        why = f"the loss of {type(objective).__name__} depends on which images come together"
    elif any(isinstance(module, Norm) and module.training for module in objective.modules()):
        why = "batch norms learn from the images of a part"
    else:
        share = batch // parallel.world()
        larger = next((n for n in range(2 * parts, share + 1) if share % n == 0), None)
        if larger is None:
            raise ConfigError(f"{images}; take a smaller size= or backbone=")
        return larger
    way = f"take a smaller batch=, or accept smaller parts yourself: accumulate={2 * parts}"
    raise ConfigError(f"{images}, and {why}, so that fewer at a time would train something else; {way}")


def release(objective: nn.Module) -> None:
    """Give back what a failed attempt has left: half a gradient, and blocks that the allocator keeps."""
    objective.zero_grad(set_to_none=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def fits(attempt: Callable[[], Any], objective: nn.Module) -> bool:
    """Whether all processes have the memory for `attempt`, which is made by each alone and leaves no trace.

    Together they must know before they begin: one that fails midway would leave the others waiting for its gradient.
    """
    kept, ok = [(buffer, buffer.clone()) for buffer in objective.buffers()], True
    try:
        with parallel.alone():
            attempt()
    except RuntimeError as error:
        if not ran_out(error):
            raise
        ok = False
    for buffer, value in kept:
        buffer.copy_(value)
    release(objective)
    return not parallel.any_of(not ok)
