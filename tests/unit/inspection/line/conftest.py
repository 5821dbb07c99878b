"""A film of twelve shades, folders that are looked at all the time, and outlets that do not wait to try again."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from visionft.inspection.line import behind, inbox


@pytest.fixture(autouse=True)
def looked_at_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are, without a pause."""
    monkeypatch.setattr(inbox, "POLL", 0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits between attempts."""
    monkeypatch.setattr(behind, "growing", lambda first, failures: 0.002)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Twelve frames at ten a second, from dark to bright; the latter half is rejected."""
    file = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for at in range(12):
        writer.write(np.full((48, 64, 3), 20 * at + 10, np.uint8))
    writer.release()
    return file
