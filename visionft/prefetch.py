"""Batches prepared by a thread while a GPU works on the ones before."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 0.1  # seconds between looks at whether anybody still wants batches


def ahead(items: Iterator[T], count: int) -> Iterator[T]:
    """The same items in the same order, up to `count` of them made in advance; what fails there is raised here."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(count)
    left = threading.Event()

    def put(item: T | None, error: BaseException | None = None) -> None:
        while not left.is_set():
            with contextlib.suppress(queue.Full):
                ready.put((item, error), timeout=PATIENCE)
                break

    def work() -> None:
        try:
            for item in items:
                put(item)
                if left.is_set():
                    return
            put(None, StopIteration())
        except BaseException as error:  # whatever it is belongs to whoever asked for the item
            put(None, error)

    threading.Thread(target=work, name="prefetch", daemon=True).start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # there is one, or an error
    finally:
        left.set()
