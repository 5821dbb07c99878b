"""Small real data sets that a package brings along, so that a first run needs no images of one's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from visionft.data.records import Table
from visionft.errors import DataError


def elpv() -> Table:
    """Read the 2,624 electroluminescence images of solar cells (Buerhop-Lopez et al. 2018; Deitsch et al. 2019).

    The data set gives a probability of being defective (0, 1/3, 2/3 or 1); above one half counts as defective.
    The group is the cell type, mono- or polycrystalline.
    """
    folder = _package_folder("elpv_dataset", "sample:elpv") / "data"
    rows = [line.split() for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines() if line.strip()]
    return Table.of(
        [folder / path for path, _, _ in rows],
        labels=[int(float(probability) > 0.5) for _, probability, _ in rows],
        groups=[cell_type for _, _, cell_type in rows],
        classes=("functional", "defective"),
        source="sample:elpv",
    )


def textile() -> Table:
    """Read the 2,000 simulated photos of fabric of the package conformal-clip-data (MIT; Megahed et al. 2025).

    Half are flawless; the defects of the others are local (a spot) or global (the whole weave).
    """
    folder = _package_folder("conformal_clip_data", "sample:textile") / "data" / "textile_images" / "simulated"
    classes = ("nominal", "local", "global")
    files = [(path, label) for label, name in enumerate(classes) for path in sorted((folder / name).glob("*.jpg"))]
    paths, labels = zip(*files, strict=True)
    return Table.of(list(paths), labels=list(labels), classes=classes, source="sample:textile")


SAMPLES: dict[str, Callable[[], Table]] = {"elpv": elpv, "textile": textile}


def _package_folder(package: str, sample: str) -> Path:
    spec = importlib.util.find_spec(package)  # finds it without importing it
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f'{sample} needs the package {package}: pip install "visionft[samples]"')
    return Path(spec.submodule_search_locations[0])
