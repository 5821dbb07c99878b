"""Where verdicts and events go: the log, pictures of rejects, a web address, a broker; the loop waits for none."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionft.inspection.verbs import InspectWatch
from visionft.inspection.verdict import Verdict

from .behind import Behind
from .lines import Lines, log_file, row
from .messages import Mqtt, Webhook
from .rejects import Reject
from .shots import Event, Shot

LOG, PICTURES, MESSAGES = 100_000, 32, 1000  # what waits in memory, at most
LEAVING = 15.0  # seconds that each outlet has for what waits when it ends


class Outlets:
    """Hands everything on in threads of their own.

    Where the disk is full, the log's lines and up to 32 rejects' pictures are kept in memory and written when there is
    room again; what goes beyond is given up, the oldest first, and counted. The same holds for 1000 messages to a
    server that does not answer. Each failure and recovery is an event, on the console and in the log.
    """

    def __init__(self, recipe: InspectWatch) -> None:
        self.folder, self.rejects_only = Path(recipe.out or ""), recipe.send == "rejects"
        self.happened: deque[Event] = deque()  # told by other threads, until the loop hears it
        senders = {"webhook": recipe.webhook and Webhook(recipe.webhook), "mqtt": recipe.mqtt and Mqtt(recipe.mqtt)}
        self.senders = {name: sender for name, sender in senders.items() if sender}
        lines, tell = Lines(log_file(recipe)) if recipe.out else None, self.happened.append
        self.log = Behind("log", lines.write, tell, kept=LOG) if lines else None
        self.pictures = Behind("pictures", Reject.write, tell, kept=PICTURES) if lines and recipe.pictures else None
        self.messages = [Behind(name, send, tell, kept=MESSAGES) for name, send in self.senders.items()]

    def verdict(self, shot: Shot, verdict: Verdict, latency: float, *, patient: bool) -> None:
        """Hand on what was said of a part; the patient wait where more comes than can be written."""
        said = row(shot, verdict, latency)
        if self.pictures and not verdict.passes:
            folder = "rejects" if verdict.reject else "unsure"
            reject = Reject(self.folder / folder, shot, verdict)
            said["photo"] = f"{folder}/{reject.name}.png"
            self.pictures.put(reject, patient=patient)
        self._line(said, patient)
        if not verdict.passes or not self.rejects_only:
            self._send(said, patient)

    def event(self, event: Event) -> None:
        """Hand on what happened."""
        self._line(event.row())
        self._send(event.row())

    def heard(self) -> list[Event]:
        """What happened in the threads since this was asked last."""
        return [self.happened.popleft() for _ in range(len(self.happened))]

    def finish(self) -> None:
        """Write the pictures that wait, as far as that can be done."""
        if self.pictures:
            self.pictures.close(LEAVING)

    def close(self, last: Mapping[str, Any]) -> None:
        """Hand on a last word and all that waits before it, the log at the very end."""
        self._line(last)
        self._send(last)
        for outlet, sender in zip(self.messages, self.senders.values(), strict=True):
            outlet.close(LEAVING)
            sender.close()
        for event in self.happened:
            self._line(event.row())
        if self.log:
            self.log.close(LEAVING)

    def given_up(self) -> dict[str, int]:
        """How much was never delivered, by outlet; only what is not nothing."""
        outlets = [outlet for outlet in (self.log, self.pictures, *self.messages) if outlet]
        return {outlet.name: outlet.given_up for outlet in outlets if outlet.given_up}

    def _line(self, row: Mapping[str, Any], patient: bool = False) -> None:
        if self.log:
            self.log.put(row, patient=patient)

    def _send(self, row: Mapping[str, Any], patient: bool = False) -> None:
        for outlet in self.messages:
            outlet.put(row, patient=patient)
