"""What every contestant of an inspection benchmark is given, as a file that its process reads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """The images, and where the answers go."""

    good: Sequence[str]  # image files to learn from, all of them
    test: Sequence[str]
    out: str  # the .npz to write
    defects: Sequence[str] = ()  # image files that may help to choose
    threads: int = 1

    @classmethod
    def read(cls, file: str) -> Self:
        """The job that `write` wrote."""
        return cls(**json.loads(Path(file).read_text(encoding="utf-8")))

    def write(self, file: Path) -> str:
        """As the child reads it."""
        file.write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")
        return str(file)
