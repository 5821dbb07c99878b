"""One ONNX file with everything that judging takes, kept only if it answers on real photos as PyTorch does."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from visionft import runs
from visionft.atomic import flush, write_text
from visionft.data.cache import cached
from visionft.data.sources import read
from visionft.errors import ConfigError, DataError
from visionft.log import Console

from .graph import Graph
from .onnx import Engine, OnnxInspector
from .parity import Parity, compare, timed
from .verbs import InspectExport
from .written import write

if TYPE_CHECKING:
    from .inspector import Inspector


@dataclass(frozen=True)
class Exported:
    """What was written, how far its answers are from PyTorch's, and milliseconds for a photo on this machine."""

    file: str
    size: tuple[int, int]  # H W of the photos that it judges
    parity: Mapping[str, Parity]  # by engine
    latency: Mapping[str, Mapping[str, float]]  # by engine, and of PyTorch
    threads: int
    machine: str
    versions: Mapping[str, str]

    def lines(self) -> list[str]:
        """What came out, in sentences."""
        found = [f"{self.file} judges photos of {self.size[1]} x {self.size[0]} pixels"]
        for engine, parity in self.parity.items():
            found.append(
                f"{engine}, {parity.photos} photos alone and {parity.together} together: at most {parity.apart:.2g} "
                f"standard deviations of good parts from PyTorch in float32; {parity.shift:.2g} from what PyTorch says "
                f"on this machine ({parity.mean_shift:+.2g} on average), which decides {parity.otherwise} otherwise"
            )
        took = [f"{engine} {ms['p50_ms']:.1f} (p99 {ms['p99_ms']:.1f})" for engine, ms in self.latency.items()]
        return [*found, f"milliseconds for a photo, threads={self.threads}: {', '.join(took)}"]


def export(inspector: Inspector, recipe: InspectExport, *, console: Console) -> Exported:
    """Write the file, compare it on photos, time it, and only then put it in its place, with a JSON of all that beside.

    Raises DataError where photos are not of one size, ConfigError where a scorer cannot be exported, CheckpointError
    where answers differ; nothing is left behind then.
    """
    photos, names = _photos(inspector, recipe)
    graph, out = Graph(inspector, _size(photos, names)).eval(), Path(recipe.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as beside:
        made = Path(beside) / out.name
        console.say(f"writing {out}")
        write(inspector, graph, made)
        console.say(f"comparing it on {len(photos)} photos")
        found = _asked(made, inspector, photos, names, recipe)
        flush(made)
        made.replace(out)
    write_text(out.with_suffix(".json"), json.dumps(dataclasses.asdict(found), indent=2))
    return found


def _asked(
    file: Path, inspector: Inspector, photos: Sequence[np.ndarray], names: Sequence[str], recipe: InspectExport
) -> Exported:
    engines: list[Engine] = ["onnxruntime", "openvino"] if recipe.openvino else ["onnxruntime"]
    parity: dict[str, Parity] = {}
    latency = {"pytorch": timed(lambda some: inspector.panel.see(list(some)), photos)}
    for engine in engines:
        run = OnnxInspector(file, engine=engine, threads=torch.get_num_threads()).run
        parity[engine] = compare(
            run, inspector.panel, inspector.promise.threshold, photos, names, batch=recipe.batch,
            tolerance=recipe.tolerance, shift=recipe.shift,
        )  # fmt: skip
        latency[engine] = timed(run, photos)
    versions = {**runs.versions(), **{name: version(name) for name in ("onnxscript", *engines)}}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    size = photos[0].shape[0], photos[0].shape[1]
    return Exported(recipe.out, size, parity, latency, torch.get_num_threads(), machine, versions)


def _photos(inspector: Inspector, recipe: InspectExport) -> tuple[Sequence[np.ndarray], list[str]]:
    """Photos to compare on, evenly spread, and their names."""
    if recipe.data is None:
        raise ConfigError("data is missing: answers are compared on photos as the camera takes them, e.g. data=photos/")
    table = read(recipe.data, labelled=False)
    table = table.take(sorted({round(at) for at in np.linspace(0, len(table) - 1, recipe.most)}))
    return cached(table, **inspector.images), [record.name for record in table]


def _size(photos: Sequence[np.ndarray], names: Sequence[str]) -> tuple[int, int]:
    """Height and width of all photos. Raises DataError naming the odd one out."""
    if len(photos) < 2:
        raise DataError("answers are compared photo by photo and on several together: one photo is too few")
    sizes = [(photo.shape[0], photo.shape[1]) for photo in photos]
    usual = Counter(sizes).most_common(1)[0][0]
    for name, size in zip(names, sizes, strict=True):
        if size != usual:
            own, others = (f"{width} x {height} pixels" for height, width in (size, usual))
            raise DataError(f"{name} is of {own} and others of {others}: a file judges photos of one size")
    return usual
