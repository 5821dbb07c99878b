"""Deliveries that the loop never waits for: a thread makes them in order, again and again where they fail."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from visionft.errors import first_line

from .shots import Event, growing

T = TypeVar("T")


class Behind(Generic[T]):
    """A bounded queue and the thread that delivers what is in it.

    OSError of `deliver` means to try again, with growing waits; any other error that this one can never be delivered.
    Beyond `kept` that wait, the oldest is given up. Nothing of this is silent: the first failure, the first that is
    given up and the recovery are events, told from that thread.
    """

    def __init__(
        self, name: str, deliver: Callable[[T], None], tell: Callable[[Event], None], *, kept: int, wait: float = 0.5
    ) -> None:
        self.name, self.deliver, self.tell, self.kept, self.wait = name, deliver, tell, kept, wait
        self.held: deque[T] = deque()
        self.changed = threading.Condition()
        self.busy = self.closing = False
        self.failures = self.lost = self.given_up = 0  # in a row; given up since all was well; given up in all
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def put(self, item: T, *, patient: bool = False) -> None:
        """Leave it to the thread; the patient wait for room as long as deliveries succeed."""
        with self.changed:
            if patient:
                self.changed.wait_for(lambda: len(self.held) < self.kept or self.failures)
            self.held.append(item)
            self._bound()
            self.changed.notify_all()

    def close(self, seconds: float) -> None:
        """Deliver what waits, in so many seconds and with one more attempt where that fails; the rest is given up."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self.thread.join(seconds)
        with self.changed:
            left = len(self.held) + self.busy
            self.held.clear()
            self.given_up += left
        if left:
            self.tell(Event(f"{self.name} given up", f"{left} at the end"))

    def _run(self) -> None:
        going = True
        while going and self._next():
            with self.changed:
                item, self.busy = self.held.popleft(), True
            try:
                self.deliver(item)
            except OSError as error:
                going = self._later(item, error)
            except Exception as error:  # a thread that dies would do so in silence
                self._give_up(first_line(error))
                self._done()
            else:
                self._done()

    def _next(self) -> bool:
        with self.changed:
            self.changed.wait_for(lambda: self.held or self.closing)
            return bool(self.held)

    def _done(self) -> None:
        with self.changed:
            self.busy = False
            failures, lost, self.failures = self.failures, self.lost, 0
            well = bool(failures or (lost and not self.held))
            self.lost = 0 if well else lost
            self.changed.notify_all()
        if well:
            self.tell(Event(f"{self.name} working again", f"{failures} attempts failed, {lost} were given up"))

    def _later(self, item: T, error: OSError) -> bool:
        """Put it back where it was, and wait; False when there is no later."""
        with self.changed:
            self.busy = False
            self.held.appendleft(item)
            self.failures += 1
            if self.failures == 1:
                text = f"{first_line(error)}; up to {self.kept} are kept in memory until it works again"
                self.tell(Event(f"{self.name} failing", text))
            self._bound()
            ending = self.closing
            self.changed.notify_all()
            if ending and self.failures > 1:
                return False
            self.changed.wait_for(lambda: self.closing and not ending, growing(self.wait, self.failures))
        return True

    def _bound(self) -> None:
        if len(self.held) > self.kept:
            self.held.popleft()
            self._give_up("more wait than are kept in memory")

    def _give_up(self, why: str) -> None:
        with self.changed:
            self.given_up += 1
            self.lost += 1
            if self.lost == 1:
                self.tell(Event(f"{self.name} given up", why))
