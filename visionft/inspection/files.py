"""The folder of an inspector: everything that judging takes, in safetensors, JSON and a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from visionft import backbones, checkpoint, runs
from visionft.atomic import replace
from visionft.data.sheet import write_png
from visionft.errors import CheckpointError

from .doubt import Doubt
from .eye import Eye
from .frame import Frame
from .panel import Calm, Panel
from .promise import Promise
from .where import Scale, shown

if TYPE_CHECKING:
    from .inspector import Inspector

REGION = "region.png"


def save(inspector: Inspector, folder: str | Path) -> Path:
    """Write everything that `load` takes, run.json last."""
    out, panel = Path(folder), inspector.panel
    out.mkdir(parents=True, exist_ok=True)
    state = {
        f"{at}.{name}": tensor.contiguous().clone()
        for at, eye in enumerate(panel.eyes)
        for name, tensor in eye.scorers.state().items()
    }
    state["signs"] = torch.from_numpy(inspector.signs)
    replace(out / "scorers.safetensors", lambda file: save_file(state, file))
    net = checkpoint.savable(panel.backbone.net.state_dict())
    replace(out / "backbone.safetensors", lambda file: save_file(net, file))
    if panel.frame.region is not None:
        write_png(out / REGION, shown(panel.frame.region[..., None].astype(np.uint8) * 255))
    checkpoint.seal(out, {
        "verb": "inspect", "backbone": panel.backbone.spec(), "start": str(panel.backbone.loaded),
        "eyes": panel.facts(), "border": list(panel.frame.border), "region": panel.frame.region is not None,
        "promise": inspector.promise.facts(), "doubt": inspector.doubt and inspector.doubt.facts(),
        "scale": dataclasses.asdict(inspector.scale),
        "images": inspector.images, "mm_per_pixel": inspector.mm_per_pixel, "learnt": inspector.learnt,
        "versions": runs.versions(),
    })  # fmt: skip
    return out


def load(run: Path) -> dict[str, Any]:
    """What the inspector in a folder is made of. Raises CheckpointError when it holds something else."""
    info = runs.info(run)
    if info.get("verb") != "inspect":
        raise CheckpointError(f"{run} is a {info.get('verb')} run, not an inspector; see `visionft predict`")
    state = load_file(run / "scorers.safetensors")
    return {
        "panel": _panel(run, info, state),
        "promise": Promise.of(**info["promise"]),
        "doubt": Doubt(**info["doubt"]) if info.get("doubt") else None,
        "scale": Scale(**info["scale"]),
        "images": info["images"],
        "mm_per_pixel": info["mm_per_pixel"],
        "learnt": info["learnt"],
        "signs": state["signs"].numpy(),
    }


def _panel(run: Path, info: Mapping[str, Any], state: Mapping[str, Tensor]) -> Panel:
    backbone = backbones.build(info["backbone"])
    backbone.net.load_state_dict(load_file(run / "backbone.safetensors"))
    eyes = [Eye.of(facts) for facts in info["eyes"]]
    for at, eye in enumerate(eyes):
        own = {key.split(".", 1)[1]: tensor for key, tensor in state.items() if key.split(".", 1)[0] == str(at)}
        try:
            eye.scorers.restore(own)
        except KeyError as missing:
            raise CheckpointError(
                f"{run} lacks {missing} of its eye {at + 1}: another version wrote it; fit it again"
            ) from missing
    frame = Frame.of(region=run / REGION) if info["region"] else Frame.of(info["border"])
    calm = [Calm(*facts["calm"]) for facts in info["eyes"]]
    return Panel(backbone.eval(), eyes, frame, calm, [facts["weight"] for facts in info["eyes"]])
