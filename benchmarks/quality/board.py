"""A 20-megapixel photo of a circuit board with a spot of 12 pixels: is it found, where, how fast and in what memory?

python -m benchmarks.quality.board [--good 20] [--defects 10] [--threads 2]

The boards are synthetic and always the same: traces, pads, components and print, shifted by up to two pixels from photo
to photo, in changing light, with noise. A spot is a disc of 12 px, darker or lighter than what it lies on by 40 of 255
gray values, at a random place. `found` are the boards with a spot that the threshold rejects (a budget of 0.05);
`placed` those whose hottest region holds the spot; the AUROC is that of boards with a spot against good ones that were
not learnt from. The second row sees the same photos made smaller to 1,024 px, as is common.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.harness import write
from benchmarks.turns import peak_mb

WIDTH, HEIGHT, SPOT, STEP = 5472, 3648, 12, 40
SMALL = 1024


def layout(seed: int = 0) -> np.ndarray:
    """H W 3 of float32: the board as it was drawn."""
    rng = np.random.default_rng(seed)
    board = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    board[:] = (58, 92, 40)
    for _ in range(900):  # traces
        start, bends = rng.integers((0, 0), (WIDTH, HEIGHT)), rng.integers(-500, 500, (3, 2))
        bends[np.arange(3), rng.integers(0, 2, 3)] = 0  # one side of each is straight
        points = np.cumsum([start, *bends], axis=0).astype(np.int32)
        cv2.polylines(board, [points], False, (78, 120, 58), int(rng.integers(4, 14)), cv2.LINE_AA)
    for _ in range(700):  # pads
        x, y = (int(one) for one in rng.integers((20, 20), (WIDTH - 20, HEIGHT - 20)))
        cv2.circle(board, (x, y), int(rng.integers(8, 22)), (188, 180, 150), cv2.FILLED, cv2.LINE_AA)
    for _ in range(220):  # components, with print
        x, y, w, h = (int(one) for one in rng.integers((0, 0, 60, 40), (WIDTH - 400, HEIGHT - 300, 380, 260)))
        shade = int(rng.integers(25, 70))
        cv2.rectangle(board, (x, y), (x + w, y + h), (shade, shade, shade + 6), cv2.FILLED)
        text, size = f"{'RCUQ'[int(rng.integers(4))]}{int(rng.integers(999))}", float(rng.uniform(0.6, 1.6))
        cv2.putText(board, text, (x + 8, y + h // 2), cv2.FONT_HERSHEY_SIMPLEX, size, (215, 215, 210), 2, cv2.LINE_AA)
    return board.astype(np.float32)


def photo(board: np.ndarray, seed: int, spot: bool) -> tuple[np.ndarray, tuple[int, int]]:
    """H W 3 of uint8, and where the spot is (x, y), which is drawn if asked for."""
    rng = np.random.default_rng(1000 + seed)
    shift = np.array([[1, 0, rng.uniform(-2, 2)], [0, 1, rng.uniform(-2, 2)]])
    taken = cv2.warpAffine(board, shift, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    x, y = (int(one) for one in rng.integers((50, 50), (WIDTH - 50, HEIGHT - 50)))
    if spot:
        part, blank = (slice(y - SPOT, y + SPOT), slice(x - SPOT, x + SPOT)), np.zeros((2 * SPOT, 2 * SPOT), np.uint8)
        disc = cv2.circle(blank, (SPOT, SPOT), SPOT // 2, 255, cv2.FILLED, cv2.LINE_AA) / np.float32(255)
        way = 1 if taken[part].mean() < 120 else -1
        taken[part] = taken[part] + way * STEP * disc[:, :, None]
    light = rng.uniform(0.95, 1.05) * np.linspace(1, rng.uniform(0.95, 1.05), WIDTH, dtype=np.float32)[None, :, None]
    noisy = taken * light + rng.standard_normal(taken.shape, np.float32) * 4
    return noisy.clip(0, 255).astype(np.uint8), (x, y)


def written(folder: Path, good: int, defects: int) -> tuple[list[Path], list[Path], dict[Path, tuple[int, int]]]:
    """JPEG files of good boards to learn from, of as many to test as there are with a spot, and where the spots are."""
    board, found, spots = layout(), list[Path](), dict[Path, tuple[int, int]]()
    for seed in range(good + 2 * defects):
        spot = seed >= good + defects
        image, place = photo(board, seed, spot)
        found.append(folder / f"board{seed:03}{'-spot' if spot else ''}.jpg")
        cv2.imwrite(str(found[-1]), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        if spot:
            spots[found[-1]] = place
    return found[:good], found[good:], spots


def shrunk(files: Sequence[Path], folder: Path) -> list[Path]:
    """Copies of a width of SMALL."""
    folder.mkdir()
    for file in files:
        small = cv2.resize(
            np.asarray(cv2.imread(str(file))), (SMALL, HEIGHT * SMALL // WIDTH), interpolation=cv2.INTER_AREA
        )
        cv2.imwrite(str(folder / file.name), small, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return [folder / file.name for file in files]


def measured(good: Sequence[Path], test: Sequence[Path], spots: dict[Path, tuple[int, int]], scale: float) -> Any:
    """Learn, and judge boards with and without a spot."""
    from visionft.evaluation.ranking import auroc
    from visionft.inspection.inspector import Inspector

    began = time.perf_counter()
    inspector = Inspector.fit([str(file) for file in good], false_reject=0.05, quiet=True)
    fitted, places = time.perf_counter() - began, {file.name: place for file, place in spots.items()}
    scores, found, placed, spent = list[float](), 0, 0, list[float]()
    for file in test:
        began = time.perf_counter()
        verdict: Any = inspector.predict(str(file))
        spent.append(time.perf_counter() - began)
        scores.append(verdict.score)
        if file.name in places:
            found += verdict.reject
            (x, y), boxes = (scale * np.array(places[file.name])), [region.box for region in verdict.regions[:1]]
            placed += any(a - 4 <= x <= c + 4 and b - 4 <= y <= d + 4 for a, b, c, d in boxes)
    bad = np.array([file.name in places for file in test])
    overkill = int((inspector.promise.rejects(scores) & ~bad).sum())
    return {
        "auroc": round(auroc(np.array(scores), bad), 4), "found": found, "placed": placed, "spots": int(bad.sum()),
        "overkill": overkill, "good_tested": int((~bad).sum()), "fitted": len(good), "fit_seconds": round(fitted, 1),
        "predict_seconds": round(float(np.median(spent)), 2), "peak_mb": peak_mb(),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the boards, and measure both ways of looking at them."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--good", type=int, default=20)
    parser.add_argument("--defects", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    words = parser.parse_args(arguments)
    torch.set_num_threads(words.threads)
    with tempfile.TemporaryDirectory() as place:
        good, test, spots = written(Path(place), words.good, words.defects)
        scale = SMALL / WIDTH
        small = shrunk([*good, *test], Path(place) / "small")
        rows = []
        for name, own, how in (
            (f"shrunk to {SMALL} px", (small[: len(good)], small[len(good) :]), scale),
            ("20 megapixels, as they are", (good, test), 1.0),  # the last: its peak is that of the process
        ):
            rows.append({"case": name, "megapixels": round(WIDTH * HEIGHT * how**2 / 1e6, 1), "spot_px": SPOT,
                         **measured(*own, spots, how)})  # fmt: skip
            print(rows[-1], flush=True)
    asked = f"--good {words.good} --defects {words.defects} --threads {words.threads}"
    print(write("board", rows, f"python -m benchmarks.quality.board {asked}"))


if __name__ == "__main__":
    main()
