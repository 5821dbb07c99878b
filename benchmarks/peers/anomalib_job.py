"""anomalib's PatchCore or PaDiM on the images of an inspection benchmark, in a process and an environment of its own.

PYTHON -m benchmarks.peers.anomalib_job JOB.json      JOB.json holds the fields of a `Job`; PYTHON has anomalib

It prints what the parent asks for as a line `reply {...}`, and leaves its answers in `Job.out`, in the order of
`Job.test`: `raw`, the scores of its model; `normalised`, what its users get, clamped to 0..1 by scores of the held-out
images (without any they are the raw ones); `maps`, raw too, float16 at the size that the network sees, N size size.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.inspected import Inspected


@dataclass(frozen=True, kw_only=True)
class Job(Inspected):
    """What anomalib is given; it takes defects for its threshold and its range of scores."""

    model: str  # patchcore or padim
    weights: str  # a safetensors or .pt file with timm's names
    layers: Sequence[str]  # as timm names them
    size: int  # side to which its pre-processor resizes, pixels
    held_out: Sequence[str] = ()  # good images for the same
    backbone: str = "tf_efficientnet_lite0"
    coreset: float = 0.1  # PatchCore: share of the patches that its bank keeps
    num_neighbors: int = 9
    n_features: int | None = None  # PaDiM: dimensions kept, at random; it knows a number for ResNets alone
    seed: int = 0
    workers: int = 0  # anomalib's own default is 8
    export: bool = False  # to ONNX, and try that


def main() -> None:
    """Import, which is timed, then do the job."""
    job = Job.read(sys.argv[1])
    began = time.perf_counter()
    import anomalib.data
    import anomalib.engine
    import anomalib.models  # noqa: F401  the three that its documentation begins with

    imports = time.perf_counter() - began
    from benchmarks.peers.anomalib_engine import measured

    print("reply", json.dumps({"import_seconds": round(imports, 2), **measured(job)}), flush=True)


if __name__ == "__main__":
    main()
