"""One pass over one file or array: its content hash, what it is, and whether every pixel of it can be trusted.

Pillow and OpenCV raise on most damage. A JPEG whose compressed data is damaged decodes all the same, to a picture with
shifted or grey parts; libjpeg then only prints a line on stderr, so we listen there while a batch is being decoded.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from visionft.data.decode import converted, of_array
from visionft.data.picture import picture
from visionft.data.records import Record
from visionft.errors import DataError

# what libjpeg prints about damaged data; libpng's and libtiff's remarks on profiles and unknown tags are no complaints
COMPLAINT = re.compile(
    rb"Corrupt JPEG data[^\n]*|Premature end of JPEG[^\n]*|Inconsistent progression[^\n]*|Invalid SOS[^\n]*"
)
CHATTER = re.compile(rb"\[ ?(?:WARN|ERROR|INFO)|libpng|\w*TIFF|\w+Decode\w*:|" + COMPLAINT.pattern)
LEFT_OVER = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9")
COARSE = 64  # pixels: a JPEG is read to its end at any scale, and a small one is assembled in a fifth of the time
_listening = threading.Lock()


@dataclass(frozen=True)
class Finding:
    """What one image turned out to be."""

    digest: str = ""
    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)  # width, height
    peak: int = 0  # the largest value of an image deeper than 8 bits
    gray: bool = False
    error: str = ""  # why it cannot be used
    left_over: str = ""  # libjpeg's complaint that data remained when the picture was already complete


def examine(record: Record, *, channels: int, white: int) -> Finding:
    """Read, hash and decode one image by the path that training takes."""
    digest = ""
    try:
        if isinstance(record.image, Path):
            data = record.image.read_bytes()
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            image = picture(data, edge=COARSE)
        else:
            digest = array_digest(record.image)
            image = of_array(record.image)
        small = converted(image, channels=channels, white=white)
    except DataError as error:
        return Finding(digest, error=str(error))
    except OSError as error:
        return Finding(digest, error=f"cannot be read: {error.strerror or error}")
    height, width = image.full or small.shape[:2]
    peak = int(image.pixels.max()) if image.pixels.dtype.kind in "ui" and image.pixels.itemsize > 1 else 0
    return Finding(digest, image.format, image.mode, (width, height), peak, image.kind == "gray")


def array_digest(array: np.ndarray) -> str:
    """Hash an array's values, shape and dtype."""
    about = f"{array.shape} {array.dtype.str}".encode()
    return hashlib.blake2b(about + np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest()


def examine_all(records: Sequence[Record], pool: Executor, look: Callable[[Record], Finding]) -> list[Finding]:
    """Examine a batch in threads; if the decoder complained, ask it again one by one to learn about whom."""
    with listen() as heard:
        findings = list(pool.map(look, records))
    if not COMPLAINT.search(heard):
        return findings
    return [
        finding if finding.error else _again(record, look) for record, finding in zip(records, findings, strict=True)
    ]


def _again(record: Record, look: Callable[[Record], Finding]) -> Finding:
    with listen() as heard:
        finding = look(record)
    complaints = [match.decode(errors="replace") for match in COMPLAINT.findall(heard)]
    if complaints and all(LEFT_OVER.match(complaint) for complaint in complaints):
        return replace(finding, left_over=complaints[0])
    return replace(finding, error=f"is damaged: {complaints[0]}") if complaints else finding


@contextmanager
def listen() -> Iterator[bytearray]:
    """Collect what native code writes to stderr; lines that no decoder wrote are passed on afterwards."""
    heard = bytearray()
    with _listening, tempfile.TemporaryFile() as file:
        with suppress(OSError, ValueError, AttributeError):  # no stderr to flush (a windowed program)
            sys.stderr.flush()
        try:
            saved = os.dup(2)
        except OSError:
            yield heard
            return
        os.dup2(file.fileno(), 2)
        try:
            yield heard
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            heard.extend(file.read())
            for line in heard.splitlines(keepends=True):
                if not CHATTER.match(line):
                    os.write(2, line)
