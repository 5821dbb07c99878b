"""anomalib as its documentation tells users to run it: a `Folder` of images, a model, and an `Engine` for both.

Left as they are: fp32, batches of 32, its checkpoint. Ours are the backbone's weights and normalisation, the size, no
progress bar, and no pictures, which it would otherwise draw while it predicts. Its images reach it as links whose
names sort as the job lists them, for it reads folders and sorts them.
"""

from __future__ import annotations

import functools
import importlib.metadata
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.models import Padim, Patchcore
from anomalib.pre_processing import PreProcessor
from lightning import seed_everything
from safetensors.torch import load_file
from torch import Tensor
from torchvision.transforms.v2 import Compose, Normalize, Resize

from benchmarks.harness import interleave, medians
from benchmarks.peers.anomalib_job import Job
from benchmarks.turns import peak_mb

BATCHES = (1, 8)  # of the network alone
EXPORTED = (1, 2, 4)  # tried in onnxruntime
REPEATS = 9
HALF = (0.5, 0.5, 0.5)  # mean and standard deviation that the weights expect
PACKAGES = ("anomalib", "torch", "timm", "lightning", "numpy")


def measured(job: Job) -> dict[str, Any]:
    """Fit, answer and time; the answers go to the file, the facts are returned."""
    torch.set_num_threads(job.threads)
    seed_everything(job.seed)
    with tempfile.TemporaryDirectory(dir=Path(job.out).parent) as place:
        root = Path(place)
        fitting, asking = folders(job, root)
        model = built(job)
        engine = Engine(default_root_dir=root / "runs", accelerator="cpu", enable_progress_bar=False)
        facts = fitted(engine, model, fitting) | answered(job, engine, model, asking)
        facts["checkpoint_mb"] = round(sum(file.stat().st_size for file in root.rglob("*.ckpt")) / 1e6, 1)
        images = next(iter(asking.test_dataloader())).image  # B 3 size size, 0..1
        facts["model_ms"] = alone(model, images)
        if job.export:
            facts["export"] = exported(job, engine, model, images, root)
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    return facts | {"threads": job.threads, "workers": job.workers, "installed": versions}


def folders(job: Job, root: Path) -> tuple[Folder, Folder]:
    """The images to fit, and to choose a threshold by, and those to answer for."""
    good, test = _linked(job.good, root / "good"), _linked(job.test, root / "test")
    held_out, defects = (
        _linked(files, root / name) if files else None
        for name, files in (("held_out", job.held_out), ("defects", job.defects))
    )
    make = functools.partial(Folder, root=root, normal_dir=good, num_workers=job.workers, seed=job.seed)
    fitting = make(
        name="fitting", normal_test_dir=held_out, abnormal_dir=defects,
        val_split_mode="same_as_test",  # perhaps of no images; with "none" its fit fails
        test_split_mode="from_dir" if held_out else "none",  # else it would take good images from the fit
    )  # fmt: skip
    return fitting, make(name="asking", normal_test_dir=test, val_split_mode="none")


def built(job: Job) -> Any:
    """A model on the backbone with the job's weights."""
    transform = Compose([Resize((job.size, job.size), antialias=True), Normalize(HALF, HALF)])
    common = {"backbone": job.backbone, "layers": list(job.layers), "pre_trained": False, "visualizer": False,
              "pre_processor": PreProcessor(transform)}  # fmt: skip
    model = (
        Padim(**common, n_features=job.n_features)
        if job.model == "padim"
        else Patchcore(**common, coreset_sampling_ratio=job.coreset, num_neighbors=job.num_neighbors)
    )
    read: Callable[[str], dict[str, Tensor]] = load_file if job.weights.endswith(".safetensors") else torch.load
    fill(model.model.feature_extractor.feature_extractor, read(job.weights))
    return model


def fill(net: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Load weights; those of layers that the network lacks, such as the head, are passed over, no others."""
    missing = net.load_state_dict(weights, strict=False).missing_keys
    if missing:
        raise ValueError(f"these weights do not fill {len(missing)} tensors of the backbone: {', '.join(missing[:3])}")


def fitted(engine: Engine, model: Any, images: Folder) -> dict[str, Any]:
    """Fit, and choose a threshold if there are images for that."""
    began = time.perf_counter()
    engine.fit(model, datamodule=images)
    return {
        "fit_seconds": round(time.perf_counter() - began, 2), "fit_peak_mb": peak_mb(),
        "threshold": _number(model.post_processor.image_threshold),  # of raw scores
        "bank": list(model.model.memory_bank.shape) if isinstance(model, Patchcore) else None,
    }  # fmt: skip


def answered(job: Job, engine: Engine, model: Any, images: Folder) -> dict[str, Any]:
    """Answer for the test images twice, first with raw scores, which warms up for the second, which is timed."""
    raw, maps = predicted(engine, model, images, normalise=False)
    began = time.perf_counter()
    normalised, _ = predicted(engine, model, images, normalise=True)
    seconds = time.perf_counter() - began
    np.savez(job.out, raw=raw, normalised=normalised, maps=maps.astype(np.float16))
    return {"predict_ms": round(1000 * seconds / len(raw), 2), "peak_mb": peak_mb()}


def predicted(engine: Engine, model: Any, images: Folder, *, normalise: bool) -> tuple[np.ndarray, np.ndarray]:
    """Scores, N, and maps, N size size, of the test images."""
    model.post_processor.enable_normalization = normalise
    batches = engine.predict(model, datamodule=images)
    scores = torch.cat([batch.pred_score.flatten() for batch in batches])
    maps = torch.cat([batch.anomaly_map.reshape(-1, *batch.anomaly_map.shape[-2:]) for batch in batches])
    return scores.numpy(), maps.numpy()


@torch.inference_mode()
def alone(model: Any, images: Tensor) -> dict[str, float]:
    """Milliseconds per image of the network on tensors, by batch: no reading, resizing or normalised scores."""
    ready = model.pre_processor(images)
    steps = {str(n): functools.partial(model.model.eval(), _first(ready, n)) for n in BATCHES}
    seconds = medians(interleave(steps, REPEATS))
    return {name: round(1000 * taken / int(name), 2) for name, taken in seconds.items()}


def exported(job: Job, engine: Engine, model: Any, images: Tensor, root: Path) -> dict[str, Any]:
    """Whether its ONNX file runs, by batch, and how far raw scores are from those of torch."""
    model.post_processor.enable_normalization = False  # clamped scores would hide a difference
    try:
        import onnxruntime

        file = engine.export(model, "onnx", export_root=root, input_size=(job.size, job.size))
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever it is, it is the finding
        return {"reason": _said(error)}
    tried = {str(n): difference(session, model.eval(), _first(images, n)) for n in EXPORTED}
    return {"input": list(session.get_inputs()[0].shape), "batches": tried}


@torch.inference_mode()
def difference(session: Any, model: Any, images: Tensor) -> dict[str, Any]:
    """The largest one of scores, or why there is none."""
    score = model(images).pred_score.flatten().numpy()
    try:
        told = session.run(["pred_score"], {session.get_inputs()[0].name: images.numpy()})[0]
    except Exception as error:  # onnxruntime raises classes of its own that it does not export
        return {"runs": False, "reason": _said(error)}
    return {"runs": True, "difference": float(np.abs(told.ravel() - score).max()), "largest_score": float(score.max())}


def _linked(files: Sequence[str], folder: Path) -> Path:
    folder.mkdir()
    for at, file in enumerate(files):
        (folder / f"{at:06d}{Path(file).suffix}").symlink_to(file)
    return folder


def _first(images: Tensor, count: int) -> Tensor:
    return images[torch.arange(count) % len(images)]


def _number(value: Tensor) -> float | None:
    return None if value.isnan() else round(float(value), 5)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
