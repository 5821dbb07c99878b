"""Run the command line in forked children that die at a chosen moment; one process imports torch for all of them.

Read one request a line from stdin, answer with one line on stdout. A moment is a second, or the number of a thing that
a run does to the files of its folder: opening, renaming, removing, or being half done with writing one.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WATCHED = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove"}


class Moments:
    """Counts what the run does to its files, and sends a signal to this process when a given one comes."""

    def __init__(self, out: Path, number: int | None, sent: int) -> None:
        self.out, self.number, self.sent = str(out), number, sent
        self.seen: list[str] = []

    def note(self, what: str, path: Any) -> None:
        if not isinstance(path, str | os.PathLike):
            return  # a descriptor
        text = str(path)
        if text.startswith(self.out):
            place = re.sub(r"\d+", "N", text.removeprefix(self.out))
        elif what == "os.remove" and "/" not in text:
            place = "(a file of a folder that goes)"
        else:
            return
        self.seen.append(f"{what} {place}")
        if len(self.seen) - 1 == self.number:
            os.kill(os.getpid(), self.sent)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in WATCHED:
            self.note(event, arguments[0])

    def emptied(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            handle = real(file, mode, *rest, **named)
            if "w" in mode:
                self.note("emptied", file)
            return handle

        return opened

    def halved(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def serialize(tensors: Any, file: Any, *rest: Any, **named: Any) -> None:
            real(tensors, file, *rest, **named)
            whole = Path(file).read_bytes()
            Path(file).write_bytes(whole[: len(whole) // 2])
            self.note("halved", file)
            Path(file).write_bytes(whole)

        return serialize


def child(request: dict[str, Any]) -> int:
    """Run the words of a request and return the exit status of the command line."""
    import safetensors.torch

    from visionft.cli import main

    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    moments = Moments(Path(request["out"]), request.get("number"), request.get("signal", signal.SIGKILL))
    safetensors.torch.serialize_file = moments.halved(safetensors.torch.serialize_file)
    io.open = moments.emptied(io.open)  # what pathlib calls
    sys.addaudithook(moments.hook)
    status = main([*request["words"], f"out={request['out']}", "--quiet"])
    Path(request["log"]).with_suffix(".json").write_text(json.dumps(moments.seen))
    return status


def attempt(request: dict[str, Any]) -> dict[str, float]:
    """Fork a child and wait for it, or kill it after some seconds."""
    began = time.perf_counter()
    if (pid := os.fork()) == 0:
        status = 70
        try:
            status = child(request)
        finally:
            os._exit(status)
    if "seconds" in request:
        time.sleep(request["seconds"])
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"status": status, "seconds": time.perf_counter() - began}


def serve() -> None:
    """Import everything once, then answer requests until stdin ends."""
    import cv2
    import torch

    import visionft.api
    import visionft.pretraining.dino
    import visionft.pretraining.run
    import visionft.tasks.run

    torch.set_num_threads(1)  # what is forked must not own threads
    cv2.setNumThreads(1)
    print("ready", visionft.__version__, flush=True)
    for line in sys.stdin:
        print(json.dumps(attempt(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
