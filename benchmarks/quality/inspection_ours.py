"""Our inspector on the images of an inspection benchmark, in a process of its own.

PYTHON -m benchmarks.quality.inspection_ours JOB.json      JOB.json holds the fields of a `Job`

It prints what the parent asks for as a line `reply {...}`, and leaves its answers in `Job.out`: `raw`, scores in the
order of `Job.test`, `reject`, the decisions, and `map_I`, the heat of the I-th test image in its own pixels, float16.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.peers.inspected import Inspected
from benchmarks.turns import peak_mb

REPEATS = 5
BATCHES = (1, 8)


@dataclass(frozen=True, kw_only=True)
class Job(Inspected):
    """What ours is given."""

    words: dict[str, Any]  # of `visionft inspect fit`
    maps: bool = False


def main() -> None:
    """Import, which is timed, then do the job."""
    job = Job.read(sys.argv[1])
    began = time.perf_counter()
    import visionft.inspection.inspector  # noqa: F401

    imports = time.perf_counter() - began
    print("reply", json.dumps({"import_seconds": round(imports, 2), **measured(job)}), flush=True)


def measured(job: Job) -> dict[str, Any]:
    """Fit, answer and time; the answers go to the file, the facts are returned."""
    import numpy as np
    import torch

    from visionft.inspection.inspector import Inspector

    torch.set_num_threads(job.threads)
    began = time.perf_counter()
    inspector = Inspector.fit(list(job.good), quiet=True, **job.words)
    if job.defects:
        inspector.add_defects(list(job.defects), good=list(job.good), quiet=True)
    fitted, peak = time.perf_counter() - began, peak_mb()
    inspector.predict(list(job.test[:8]))  # the first of a shape compiles kernels
    began = time.perf_counter()
    verdicts: Any = inspector.predict(list(job.test))
    spent = time.perf_counter() - began
    heats = {f"map_{at}": v.heat.astype(np.float16) for at, v in enumerate(verdicts)} if job.maps else {}
    np.savez(job.out, raw=[v.score for v in verdicts], reject=[v.reject for v in verdicts], **heats)
    return {
        "fit_seconds": round(fitted, 2), "fit_peak_mb": peak, "peak_mb": peak_mb(), "threshold":
        inspector.promise.threshold, "predict_ms": round(1000 * spent / len(job.test), 2), **alone(inspector, job),
        "weights": list(inspector.panel.weights), "threads": job.threads,
    }  # fmt: skip


def alone(inspector: Any, job: Job) -> dict[str, dict[str, float]]:
    """Milliseconds per image on decoded pixels, by batch: of the inspector, and of its backbone alone."""
    import torch

    from visionft.data.cache import cached
    from visionft.data.sources import read
    from visionft.features import answering

    pixels = cached(read(list(job.test[: max(BATCHES)]), labelled=False), store="ram")
    backbone, found = inspector.panel.backbone, dict[str, dict[str, float]](model_ms={}, backbone_ms={})
    for batch in BATCHES:
        some, names = [pixels[at] for at in range(batch)], [""] * batch
        stacks = stacked(some)
        with torch.no_grad(), answering(backbone):
            floor = median_ms(partial(mapped, backbone, stacks))
        found["model_ms"][str(batch)] = round(median_ms(partial(inspector.judge, some, names)) / batch, 2)
        found["backbone_ms"][str(batch)] = round(floor / batch, 2)
    return found


def mapped(backbone: Any, stacks: Sequence[Any]) -> None:
    """What the inspector asks of its backbone."""
    for stack in stacks:
        backbone.maps(stack, [1, 2, 3])


def stacked(images: Sequence[Any]) -> list[Any]:
    """Images of one size together, B C H W of uint8 each."""
    import torch

    groups: dict[tuple[int, ...], list[Any]] = {}
    for image in images:
        groups.setdefault(image.shape, []).append(torch.from_numpy(image.copy()))
    stacks = (torch.stack(group).movedim(-1, 1) for group in groups.values())
    return [stack.contiguous(memory_format=torch.channels_last) for stack in stacks]


def median_ms(step: Callable[[], object]) -> float:
    """Of REPEATS calls, after two that warm up."""
    times = []
    for _ in range(REPEATS + 2):
        began = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[2:])


if __name__ == "__main__":
    main()
