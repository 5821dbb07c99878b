"""A graph as an ONNX file: a batch of any size, and in the metadata what it promises and how it is to be read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from visionft import __version__
from visionft.errors import ConfigError, first_line

from .eyes import said
from .graph import Graph
from .onnx import KEY, OUTPUTS, packed
from .signs import names

if TYPE_CHECKING:
    from .inspector import Inspector

OPSET = 18
MEANING = {
    "photos": "B H W C of uint8, RGB where there are three channels",
    "score": "B, in standard deviations of good parts; beyond the threshold a photo is rejected",
    "p_value": "B, how often a good part scores as high or higher",
    "reject": "B; a photo that is not rejected though its score is unsure_from or more could be either: ask a human",
    "each": "B E, what each eye says",
    "heat": "B h w, of the box (top, bottom, left, right in pixels); beyond scale.mark a place is marked",
}


def write(inspector: Inspector, graph: Graph, file: Path) -> None:
    """Write an inspector's graph. Raises ConfigError where torch cannot."""
    blank = torch.zeros(2, *graph.size, graph.backbone.channels, dtype=torch.uint8)  # a batch of 1 would stay 1
    try:
        with _hushed(), torch.no_grad():
            program = torch.onnx.export(
                graph, (blank,), dynamo=True, verbose=False, opset_version=OPSET, input_names=["photos"],
                output_names=list(OUTPUTS), dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
    except ModuleNotFoundError as error:
        raise ConfigError(f'{error.name} is missing: pip install "visionft[export]"') from error
    except Exception as error:  # each part of the exporter has its own
        scorers = ", ".join(type(eye.scorer).__name__ for eye in inspector.panel.eyes)
        raise ConfigError(
            f"torch cannot export this inspector: {first_line(error)[:200]}; its scorers are {scorers}, and what "
            "`score` does must be operations on tensors, the same whatever the values and however many the images"
        ) from error
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # lines and folders of this machine
    program.model.metadata_props[KEY] = json.dumps(facts(inspector, graph.size))
    program.save(file, external_data=False)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep what the exporter says to its developers from users."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def facts(inspector: Inspector, size: tuple[int, int]) -> Mapping[str, Any]:
    """What a file says of itself: plain JSON values."""
    panel, promise, doubt = inspector.panel, inspector.promise, inspector.doubt
    return {
        "visionft": __version__, "opset": OPSET, "size": list(size), "images": dict(inspector.images),
        "mm_per_pixel": inspector.mm_per_pixel,
        "promise": promise.words(), "false_reject": promise.false_reject, "threshold": promise.threshold,
        "confidence": promise.confidence,
        "signs": {"of": names(inspector.signs.shape[1]), "good": inspector.signs.tolist()},
        "doubt": doubt and doubt.words(), "unsure_from": doubt and doubt.threshold,
        "good": len(promise.scores), "scale": dataclasses.asdict(inspector.scale), "border": list(panel.frame.border),
        "region": packed(panel.frame.region), "box": list(panel.frame.box(*size)), "backbone": panel.backbone.name,
        "eyes": [said(eye) for eye in panel.eyes], "weights": list(panel.weights),
        "fingerprint": inspector.learnt.get("fingerprint"), "meaning": MEANING,
    }  # fmt: skip
