"""Pictures of rejected parts: the photo, what is hot in it and what is marked, by day and time."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from visionft import atomic
from visionft.data.sheet import png
from visionft.inspection.verdict import Verdict
from visionft.inspection.where import shown

from .shots import Shot


class Reject:
    """Files to be written, encoded at the first attempt; after a failure those that are left are written."""

    def __init__(self, folder: Path, shot: Shot, verdict: Verdict) -> None:
        frame = re.sub(r"[^\w-]+", "_", shot.name)[-100:]
        self.folder, self.name = folder, f"{shot.time:%Y-%m-%d}/{shot.time:%H-%M-%S.%f}-{frame}"
        self.verdict: Verdict | None = replace(verdict)  # without the map that the log's regions were made from
        self.files: list[tuple[Path, bytes]] = []

    def write(self) -> None:
        """Raises OSError when a file cannot be written."""
        if self.verdict:
            self.files, self.verdict = self._encoded(self.verdict), None
        while self.files:
            file, data = self.files[0]
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic.replace(file, partial(Path.write_bytes, data=data))
            self.files.pop(0)

    def _encoded(self, verdict: Verdict) -> list[tuple[Path, bytes]]:
        mask = shown(verdict.mask[..., None].astype(np.uint8) * 255)
        pictures = {"": shown(verdict.pixels), "-overlay": verdict.overlay, "-mask": mask}
        return [(self.folder / f"{self.name}{what}.png", png(picture)) for what, picture in pictures.items()]
