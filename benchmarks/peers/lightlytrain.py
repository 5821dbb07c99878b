"""LightlyTrain, one step at a time, in an environment of its own (it needs no visionft there).

PYTHON -m benchmarks.peers.lightlytrain ours CASE FOLDER THREADS        PYTHON has lightly-train and timm installed

It trains as its documentation says, on the same files, with its own transforms at our sizes, and no workers: those
would load its next batches, and take a core, while another contestant is being timed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

from benchmarks.turns import asked

METHODS: dict[str, dict[str, Any]] = {
    "simclr": {},
    "dino": {"method_args": {"output_dim": 2048, "batch_norm": True}},
}


def model(name: str) -> str:
    """timm's model of this name, or torchvision's where it is the same network."""
    return f"torchvision/{name}" if name.startswith("resnet") else f"timm/{name}"


def main() -> None:
    """Begin to train, and take a step whenever the parent asks for one."""
    _, words, folder, threads = sys.argv[1:]
    os.environ |= {"LIGHTLY_TRAIN_EVENTS_DISABLED": "1", "LIGHTLY_TRAIN_POSTHOG_KEY": ""}
    import torch
    from lightly_train import pretrain
    from pytorch_lightning import Callback, Trainer

    torch.set_num_threads(int(threads))
    case = json.loads(words)
    turns = asked()

    class InTurn(Callback):  # type: ignore[misc]
        def on_train_batch_start(self, *_: Any) -> None:
            if next(turns, "over") == "over":
                os._exit(0)

    begin = Trainer.__init__  # the arguments of a run are written as JSON, so no callback can be passed among them
    Trainer.__init__ = lambda self, *a, **more: begin(self, *a, **(more | {"callbacks": [InTurn()]}))
    size, small = (case["size"],) * 2, (max(16, round(case["size"] / 2 / 16) * 16),) * 2
    views = {"local_view": {"num_views": 6, "view_size": small}} if case["objective"] == "dino" else {}
    with tempfile.TemporaryDirectory() as out:
        pretrain(
            out=out,
            data=folder,
            model=model(case["backbone"]),
            method=case["objective"],
            batch_size=case["batch"],
            epochs=1000,
            num_workers=0,
            accelerator="auto",
            overwrite=True,
            loggers={"tensorboard": None, "jsonl": None},
            trainer_args={"enable_progress_bar": False, "enable_checkpointing": False},
            transform_args={"image_size": size, **views},
            **METHODS[case["objective"]],
        )


if __name__ == "__main__":
    main()
