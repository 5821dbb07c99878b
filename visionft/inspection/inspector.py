"""From a folder of good parts to stop or go: `Inspector.fit("good/", false_reject=0.01).predict("new.png")`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from visionft import backbones, checkpoint, runs
from visionft.atomic import replace
from visionft.data.cache import cached
from visionft.data.sources import read
from visionft.errors import CheckpointError
from visionft.log import Console

from .eye import Eye, Seen
from .panel import Calm, Panel
from .promise import Promise, check
from .verdict import Verdict
from .where import Scale

FOLDS = 10


class Inspector:
    """A panel of eyes that know good parts, a promise of how many of those are rejected, and colours for the rest."""

    def __init__(self, panel: Panel, promise: Promise, scale: Scale, images: dict[str, int]) -> None:
        self.panel, self.promise, self.scale = panel, promise, scale
        self.images = images  # how files are read: channels, white

    @classmethod
    def learn(
        cls, panel: Panel, good: Sequence[np.ndarray], false_reject: float, images: dict[str, int], console: Console
    ) -> Inspector:
        """From decoded good images. Raises DataError where they are too few for the promise."""
        check(len(good), false_reject)  # what cannot be promised must be said before anything is learnt
        held = panel.fit(good, min(FOLDS, len(good)), console.progress("good parts"))
        promise = Promise.of([seen.score for seen in held], false_reject)
        console.say(promise.words())
        return cls(panel, promise, scale_of(held, promise), images)

    def predict(self, images: Any) -> Verdict | list[Verdict]:
        """Judge a file or an array (H W or H W C, uint8): one verdict; or a list of these or a folder: a list.

        Raises DataError naming every file that cannot be read.
        """
        single = isinstance(images, np.ndarray) and images.ndim < 4
        table = read([images] if single else images, labelled=False)
        pixels = cached(table, channels=self.images["channels"], white=self.images["white"], store="off")
        found = self.judge(pixels, [record.name for record in table])
        one = single or (isinstance(images, (str, Path)) and Path(images).is_file() and len(found) == 1)
        return found[0] if one else found

    def judge(self, pixels: Sequence[np.ndarray], names: Sequence[str]) -> list[Verdict]:
        """Judge decoded images."""
        seen = self.panel.see(pixels)
        scores = [one.score for one in seen]
        rows = zip(names, seen, self.promise.p_values(scores), self.promise.rejects(scores), strict=True)
        return [
            Verdict(name, one.score, float(p), bool(reject), one.map, one.size, self.scale, pixels, at)
            for at, (name, one, p, reject) in enumerate(rows)
        ]

    def save(self, folder: str | Path) -> Path:
        """Write everything that `load` takes, run.json last."""
        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        state = {
            f"{at}.{name}": tensor.contiguous().clone()
            for at, eye in enumerate(self.panel.eyes)
            for name, tensor in eye.scorer.state().items()
        }
        replace(out / "scorers.safetensors", lambda file: save_file(state, file))
        net = checkpoint.savable(self.panel.backbone.net.state_dict())
        replace(out / "backbone.safetensors", lambda file: save_file(net, file))
        checkpoint.seal(out, {
            "verb": "inspect", "backbone": self.panel.backbone.spec(), "start": str(self.panel.backbone.loaded),
            "eyes": self.panel.facts(), "promise": self.promise.facts(), "scale": dataclasses.asdict(self.scale),
            "images": self.images, "versions": runs.versions(),
        })  # fmt: skip
        return out

    @classmethod
    def load(cls, folder: str | Path) -> Inspector:
        """Read what `save` wrote. Raises CheckpointError when it is something else."""
        run = Path(folder)
        info = runs.info(run)
        if info.get("verb") != "inspect":
            raise CheckpointError(f"{run} is a {info.get('verb')} run, not an inspector; see `visionft predict`")
        backbone = backbones.build(info["backbone"])
        backbone.net.load_state_dict(load_file(run / "backbone.safetensors"))
        state, eyes = load_file(run / "scorers.safetensors"), [Eye.of(facts) for facts in info["eyes"]]
        for at, eye in enumerate(eyes):
            own = {key.split(".", 1)[1]: tensor for key, tensor in state.items() if key.split(".", 1)[0] == str(at)}
            eye.scorer.restore(own)
        calm = [Calm(*facts["calm"]) for facts in info["eyes"]]
        panel = Panel(backbone.eval(), eyes, calm, [facts["weight"] for facts in info["eyes"]])
        return cls(panel, Promise.of(**info["promise"]), Scale(**info["scale"]), info["images"])


def scale_of(held: Sequence[Seen], promise: Promise) -> Scale:
    """Marked is what lies beyond the hottest places of as many good parts as the promise does not reject."""
    peaks = np.sort([float(seen.map.max()) for seen in held])
    return Scale(float(np.median(peaks)), float(peaks[promise.rank - 1]))
