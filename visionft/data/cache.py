"""Decoded pixels kept in memory or in one memory-mapped file, so that no epoch decodes what an earlier one did."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, overload

import cv2
import numpy as np

from visionft.data.decode import pixels
from visionft.data.examine import array_digest
from visionft.data.records import Record, Table
from visionft.errors import DataError

Progress = Callable[[int, int], None]
BATCH = 64  # images decoded between two writes: bounds what is in memory while a file is built
SAMPLED = 32  # images decoded to estimate the size of all
ABANDONED = 3600  # a builder that has not written for this many seconds is dead
UNUSED = 30 * 86400  # an entry that nobody has read for this many seconds makes room when another is built
LAYOUT = 1  # raised when decoding or the file layout changes, so that older caches are not read


class Images(Sequence[np.ndarray]):
    """Decoded images, uint8 H W C and read-only, each of its own size; picklable for data-loader workers."""

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def stored(self, index: int) -> np.ndarray:
        """The pixels as kept: one channel where three would be equal."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        image = self.stored(range(len(self))[index]).view()  # range: negative indices and IndexError as everywhere
        if self.channels == 3 and image.shape[2] == 1:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        image.flags.writeable = False
        return image


class InMemory(Images):
    """A list of arrays."""

    def __init__(self, channels: int, images: Sequence[np.ndarray]) -> None:
        super().__init__(channels)
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def stored(self, index: int) -> np.ndarray:
        return self.images[index]


class OnDisk(Images):
    """One file of pixels, mapped when first used in a process, and an index of where each image lies."""

    def __init__(self, channels: int, folder: Path) -> None:
        super().__init__(channels)
        self.folder = folder
        self.shapes = np.array(json.loads((folder / "index.json").read_text())["shapes"], dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.shapes.prod(1))])
        self.bytes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.shapes)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "bytes": None}  # each process maps the file for itself

    def stored(self, index: int) -> np.ndarray:
        if self.bytes is None:
            self.bytes = np.memmap(self.folder / "pixels.bin", np.uint8, "r").view(np.ndarray)
        return self.bytes[self.starts[index] : self.starts[index + 1]].reshape(self.shapes[index])


class Undecoded(Images):
    """Nothing is kept: every access decodes."""

    def __init__(self, channels: int, table: Table, look: Callable[[Record], np.ndarray]) -> None:
        super().__init__(channels)
        self.table, self.look = table, look

    def __len__(self) -> int:
        return len(self.table)

    def stored(self, index: int) -> np.ndarray:
        return self.look(self.table[index])


def cached(
    table: Table,
    *,
    edge: int | None = None,
    channels: int = 3,
    white: int = 65535,
    store: Literal["ram", "disk", "off", "auto"] = "auto",
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Images:
    """Decode a table once, in threads; "auto" keeps it in memory if it fits a quarter of what is free, else on disk.

    A cache on disk is found again while no file's size or time has changed, by any process and for the same options.
    """
    look = partial(pixels, channels=channels, edge=edge, white=white)
    if store == "off" or not len(table):
        return Undecoded(channels, table, look)
    place = (folder or cache_root()) / "decoded" / _identity(table, edge, channels, white)
    if store == "auto":
        store = _where(table, look, place)
    if store == "off":
        return Undecoded(channels, table, look)
    if store == "ram":
        return InMemory(channels, list(_decoded(table, look, progress)))
    if not _complete(place):
        forget(place.parent)
        _build(place, table, look, progress)
    used(place)
    return OnDisk(channels, place)


def cache_root() -> Path:
    """The folder for what can be computed again: $VISIONFT_CACHE or ~/.cache/visionft."""
    return Path(os.environ.get("VISIONFT_CACHE") or Path.home() / ".cache" / "visionft")


def used(entry: Path) -> None:
    """Note that an entry of a cache has been read now."""
    with suppress(OSError):  # a cache may be shared and read-only
        os.utime(entry)


def forget(entries: Path) -> None:
    """Remove the entries of a cache, one folder each, that nobody has read for thirty days."""
    for entry in entries.glob("*/"):
        with suppress(OSError):  # another process may be tidying, too
            if time.time() - entry.stat().st_mtime > UNUSED:
                shutil.rmtree(entry, ignore_errors=True)


def estimated_bytes(table: Table, look: Callable[[Record], np.ndarray]) -> int:
    """What the decoded table takes, judged by a few images spread over it."""
    places = sorted({round(at) for at in np.linspace(0, len(table) - 1, SAMPLED)})
    sizes = [_compact(look(table[place])).nbytes for place in places]
    return round(float(np.mean(sizes)) * len(table))


def available_memory() -> int:
    """Bytes that this process may still take: what the machine has free, or less where a container sets a limit."""
    try:
        info = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(info["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # no Linux: half of what is built in, where the system says how much that is
        names = getattr(os, "sysconf_names", {})
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if "SC_PHYS_PAGES" in names else 2**32
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return min(free, limit - int((group / "memory.current").read_text()) + int(stat["inactive_file"]))
    except (OSError, KeyError, ValueError):  # no such limit ("max")
        return free


def _where(table: Table, look: Callable[[Record], np.ndarray], place: Path) -> Literal["ram", "disk", "off"]:
    if _complete(place):
        return "disk"
    needed = estimated_bytes(table, look)
    if needed <= available_memory() // 4:
        return "ram"
    return "disk" if needed * 1.2 < _free_space(place) else "off"


def _free_space(place: Path) -> int:
    return shutil.disk_usage(next(parent for parent in place.parents if parent.exists())).free


def _decoded(table: Table, look: Callable[[Record], np.ndarray], progress: Progress | None) -> Iterator[np.ndarray]:
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(table), BATCH):
            batch = table.records[start : start + BATCH]
            yield from pool.map(lambda record: _compact(look(record)), batch)
            if progress:
                progress(start + len(batch), len(table))


def _compact(image: np.ndarray) -> np.ndarray:
    """Keep one of three equal channels; gray images are often stored as colour."""
    if (
        image.shape[2] == 3
        and np.array_equal(image[..., 0], image[..., 1])
        and np.array_equal(image[..., 1], image[..., 2])
    ):
        return np.ascontiguousarray(image[..., :1])
    return image


def _identity(table: Table, edge: int | None, channels: int, white: int) -> str:
    digest = hashlib.blake2b(json.dumps([LAYOUT, edge, channels, white]).encode(), digest_size=16)
    for record in table:
        if isinstance(record.image, Path):
            try:
                stat = record.image.stat()
            except OSError as error:
                raise DataError(f"{record.name} cannot be read: {error.strerror}") from error
            digest.update(
                f"{record.image.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape")
            )
        else:
            digest.update(f"{record.digest or array_digest(record.image)}\n".encode())
    return digest.hexdigest()


def _complete(place: Path) -> bool:
    return (place / "index.json").is_file() and (place / "pixels.bin").is_file()


def _build(place: Path, table: Table, look: Callable[[Record], np.ndarray], progress: Progress | None) -> None:
    """Write beside and rename, so that what has the name is whole; whoever comes second throws its own away."""
    _clean(place.parent)
    part = place.with_name(f"{place.name}.{uuid.uuid4().hex}.part")
    try:
        part.mkdir(parents=True)
        _write(part, table, look, progress)
        try:
            part.replace(place)
        except OSError:
            if not _complete(place):
                raise
    except OSError as error:
        way = "set VISIONFT_CACHE to a folder with more space, or store=off"
        raise DataError(f"the cache of decoded images cannot be written to {place}: {error.strerror}; {way}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(part: Path, table: Table, look: Callable[[Record], np.ndarray], progress: Progress | None) -> None:
    shapes = []
    with (part / "pixels.bin").open("wb") as file:
        for image in _decoded(table, look, progress):
            file.write(image.data)
            shapes.append(image.shape)
    (part / "index.json").write_text(json.dumps({"shapes": shapes}))


def _clean(folder: Path) -> None:
    """Remove what killed builders left; a living one writes all the time."""
    for part in folder.glob("*.part"):
        try:
            written = max((file.stat().st_mtime for file in part.iterdir()), default=part.stat().st_mtime)
        except OSError:  # its builder has just finished
            continue
        if time.time() - written > ABANDONED:
            shutil.rmtree(part, ignore_errors=True)
