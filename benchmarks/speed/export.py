"""Does an exported inspector answer as PyTorch does, for which batches, and how fast? Ours and anomalib's.

python -m benchmarks.speed.export [--data textile] [--peer-python PYTHON] [--threads 2] [--good 100]

Ours is exported by `Inspector.export`, which keeps a file only if it answers alike; photos go in as they are, the
threshold is inside. anomalib's PatchCore and PaDiM are exported as its documentation says, for images of the size that
the network sees. `apart` is the largest difference of scores between file and PyTorch: in standard deviations of good
parts for ours, as a share of the largest score for anomalib's. Milliseconds are of one photo at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.harness import write
from benchmarks.peers import anomalib_job
from benchmarks.quality.inspection import BACKBONE, BORDER, PATCHES, SIZE, WEIGHTS, Photos, photos
from benchmarks.turns import once
from visionft import backbones
from visionft.inspection.inspector import Inspector

BANK, COMPARED = 2000, 64


def ours(data: str, some: Photos, place: Path, *, openvino: bool) -> dict[str, Any]:
    """A row of ours."""
    inspector = Inspector.fit(some.good, false_reject=0.05, border=BORDER.get(data, 0), quiet=True)
    file, asked = place / "part.onnx", [*some.test[: COMPARED // 2], *some.test[-COMPARED // 2 :]]
    inspector.export(file, asked, most=COMPARED, openvino=openvino, quiet=True)
    told = json.loads(file.with_suffix(".json").read_text())
    own = told["parity"]["onnxruntime"]
    return {
        "tool": "ours", "batches": {"1": True, str(own["together"]): True}, "apart": own["apart"],
        "photos": own["photos"],
        "decided_otherwise": own["otherwise"], "file_mb": round(file.stat().st_size / 1e6, 1), "ms": told["latency"],
        "parity": told["parity"], "installed": told["versions"],
    }  # fmt: skip


def anomalib(model: str, some: Photos, place: Path, words: argparse.Namespace) -> dict[str, Any]:
    """A row of anomalib's."""
    weights, wide = place / "weights.safetensors", model == "padim"
    save_file(backbones.load(BACKBONE, WEIGHTS).net.state_dict(), weights)
    job = anomalib_job.Job(
        good=some.good, test=some.test[:32], out=str(place / "peer.npz"), model=model, weights=str(weights), size=SIZE,
        layers=["blocks.1", "blocks.2", "blocks.4"] if wide else ["blocks.2", "blocks.4"],
        coreset=BANK / (PATCHES * len(some.good)), n_features=100 if wide else None, threads=words.threads, export=True,
    ).write(place / "peer.json")  # fmt: skip
    told = once(words.peer_python, "benchmarks.peers.anomalib_job", job, threads=words.threads)
    tried = told["export"].get("batches", {})
    apart = [one["difference"] / one["largest_score"] for one in tried.values() if one["runs"]]
    return {
        "tool": model, "batches": {size: one["runs"] for size, one in tried.items()}, "apart": max(apart, default=None),
        "ms": {"pytorch": {"p50_ms": told["model_ms"]["1"]}}, "export": told["export"], "installed": told["installed"],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Ours, then anomalib's where an environment has it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="textile", choices=["textile", "elpv"])
    parser.add_argument("--peer-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--good", type=int, default=100)
    parser.add_argument("--openvino", action="store_true", help="time the file in OpenVINO, too (extra openvino)")
    words = parser.parse_args(arguments)
    torch.set_num_threads(words.threads)
    every = photos(words.data, 0, None, 0)
    some = Photos(every.good[: words.good], every.test, every.kinds, {}, [])
    rows = []
    with tempfile.TemporaryDirectory() as place:
        rows.append(ours(words.data, some, Path(place), openvino=words.openvino))
        print(rows[-1], flush=True)
        for model in ("patchcore", "padim"):
            rows.append(anomalib(model, some, Path(place), words))
            print(rows[-1], flush=True)
    rows = [{"data": words.data, "fitted": len(some.good), "threads": words.threads, **row} for row in rows]
    print(write("export", rows, f"python -m benchmarks.speed.export --data {words.data}"))


if __name__ == "__main__":
    main()
