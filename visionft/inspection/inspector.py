"""From a folder of good parts to stop or go: `Inspector.fit("good/", false_reject=0.01).predict("new.png")`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from visionft import config, runs
from visionft.annotations.marked import NO_DEFECT
from visionft.arrays import Bools, Floats
from visionft.data.cache import cached
from visionft.data.decode import Reading
from visionft.data.prepare import Chosen, prepare
from visionft.log import Console

from . import files
from .asked import asked
from .chapter import fitted_report
from .doubt import Doubt
from .drift import changes
from .evaluate import Worth, evaluate
from .evaluated import evaluated_report
from .eye import Seen
from .learn import learnt, panel_of, standing
from .once import known, once, signed
from .panel import Panel
from .promise import Promise, check
from .teach import teach
from .truth import read_truth
from .verbs import AddDefects, InspectEvaluate, InspectExport, InspectFit
from .verdict import Verdict
from .where import Scale

if TYPE_CHECKING:
    from .export import Exported
    from .line.watch import Watched

AT_ONCE = 64  # images between two words of progress


@dataclass
class Inspector:
    """A panel of eyes that know good parts, a promise of how many of those are rejected, and colours for the rest."""

    panel: Panel
    promise: Promise
    scale: Scale
    images: Reading  # how files are read: channels, white
    mm_per_pixel: float | None = None
    learnt: Mapping[str, Any] = field(default_factory=dict)  # from what: source, fingerprint, suspects
    signs: Floats = field(default_factory=lambda: np.empty((0, 0)))  # N S, of the good parts, held out: see `signs`
    doubt: Doubt | None = None  # which photos could be either, where defects say how low they can score
    held: Sequence[Seen] = ()  # the good parts as they look to one that has not learnt from them; where it was fitted

    @property
    def defects(self) -> int:
        """How many photos of defects it has been shown."""
        return int(self.learnt.get("defects", 0))

    @classmethod
    def fit(cls, data: Any = None, *, quiet: bool = False, **words: Any) -> Inspector:
        """Learn from good parts; words are the keys of `visionft inspect fit`, and nothing is written unless `out` is.

        Raises DataError where the images are too few for the promise, ConfigError for words that make no sense.
        """
        given = {} if data is None else {"data": data}
        recipe = data if isinstance(data, InspectFit) else config.load(InspectFit, {"out": None, **given, **words})
        console = Console(quiet=quiet)
        panel = panel_of(recipe)
        ready = once(prepare(recipe, console, labelled=False), console)
        if recipe.out:
            runs.begin(Path(recipe.out), recipe, ready.table.fingerprint)
        names = [record.name for record in ready.table]
        how = Reading(channels=recipe.channels, white=recipe.white)
        found = cls.learn(
            panel, ready.pixels, recipe.false_reject, how, console,
            names=names, drop=recipe.suspects == "drop", confidence=recipe.confidence,
        )  # fmt: skip
        found.mm_per_pixel = recipe.mm_per_pixel
        about = {"count": len(names), "data": _again(recipe.data), "photos": signed(ready.table)}
        found.learnt = {**found.learnt, **ready.facts(), **about}
        if recipe.out:
            if recipe.report:
                held = found.verdicts(found.held, names, ready.pixels)
                fitted_report(found, held, ready.scan).write(Path(recipe.out) / "report.html")
            found.save(recipe.out)
        return found

    def add_defects(self, data: Any = None, *, quiet: bool = False, **words: Any) -> Inspector:
        """Let photos of real defects choose what counts; the promise is made anew, by the same good photos.

        `data` is a folder of defects, annotations, or a list; words are the keys of `visionft inspect add-defects`, and
        nothing is written unless `out` is. Changes this inspector and returns it. Raises DataError where defects are
        too few, or the good photos, which are fitted to again, are not to be found where they were.
        """
        recipe = data if isinstance(data, AddDefects) else config.load(AddDefects, {"data": data, **words})
        teach(self, recipe, Console(quiet=quiet))
        return self

    @classmethod
    def learn(
        cls, panel: Panel, good: Sequence[np.ndarray], false_reject: float, images: Reading,
        console: Console, *, names: Sequence[str] | None = None, drop: bool = False,
        confidence: float | None = None,
    ) -> Inspector:  # fmt: skip
        """From decoded good images. Raises DataError where they are too few for the promise."""
        names = names or [f"image {at}" for at in range(len(good))]
        check(len(good), false_reject, confidence)  # what cannot be promised must be said before anything is learnt
        held, odd = learnt(panel, good, names, console, drop=drop)
        promise, scale, rows = standing(held, good, false_reject, confidence)
        console.say(promise.words())
        about = {"suspects": odd, "dropped": drop}
        return cls(panel, promise, scale, images, learnt=about, signs=rows, held=held)

    def predict(self, images: Any, *, quiet: bool = True) -> Verdict | list[Verdict]:
        """Judge a file or an array (H W or H W C, uint8): one verdict; or a list of these or a folder: a list.

        Raises DataError naming every file that cannot be read.
        """
        return asked(images, self.images, lambda pixels, names: self.judge(pixels, names, Console(quiet=quiet)))

    def judge(
        self, pixels: Sequence[np.ndarray], names: Sequence[str], console: Console | None = None
    ) -> list[Verdict]:
        """Judge decoded images."""
        progress, seen = (console or Console(quiet=True)).progress("photos"), list[Seen]()
        for start in range(0, len(pixels), AT_ONCE):
            seen += self.panel.see(Chosen(pixels, range(start, min(start + AT_ONCE, len(pixels)))))
            progress(len(seen), len(pixels))
        return self.verdicts(seen, names, pixels)

    def verdicts(self, seen: Sequence[Seen], names: Sequence[str], pixels: Sequence[np.ndarray]) -> list[Verdict]:
        """What follows from how photos look to the panel."""
        scores = [one.score for one in seen]
        rejects = self.promise.rejects(scores)
        rows = zip(names, seen, self.promise.p_values(scores), rejects, self.unsure(scores, rejects), strict=True)
        look = self.panel.frame, self.scale, self.mm_per_pixel
        return [
            Verdict(
                name, one.score, float(p), bool(reject), one.each, one.map, one.size, *look, pixels, at, bool(doubt)
            )
            for at, (name, one, p, reject, doubt) in enumerate(rows)
        ]

    def unsure(self, scores: npt.ArrayLike, rejects: npt.ArrayLike) -> Bools:
        """Which photos, of these scores and so decided, could be either: none where defects were never asked."""
        return self.doubt.among(scores, rejects) if self.doubt else np.zeros(np.shape(rejects), bool)

    def evaluate(self, data: Any = None, *, quiet: bool = False, **words: Any) -> Worth:
        """Measure escapes and overkill on photos of which it is known what is good.

        Words are the keys of `visionft inspect evaluate`, and nothing is written unless `out` is. Raises DataError
        where it is not known of all photos whether they are good.
        """
        recipe = data if isinstance(data, InspectEvaluate) else config.load(InspectEvaluate, {"data": data, **words})
        console = Console(quiet=quiet)
        truth = read_truth(recipe.data, good=recipe.good, images=self.images, bad=recipe.bad, console=console)
        table = truth.table
        pixels = cached(table, **self.images, store="off")
        verdicts = self.judge(pixels, [record.name for record in table], console)
        where = truth.mask if truth.placed else None
        worth = evaluate(verdicts, truth.kinds, self.promise, groups=truth.groups, where=where)
        good = [verdict for verdict, kind in zip(verdicts, truth.kinds, strict=True) if kind == NO_DEFECT]
        seen = known(table, [*self.learnt.get("photos", []), *self.learnt.get("photos_of_defects", [])])
        worth = dataclasses.replace(worth, changes=[str(drift) for drift in changes(self, good)], seen=len(seen))
        if recipe.out:
            evaluated_report(self, worth, verdicts, truth, recipe.costs).write(recipe.out)
        return worth

    def save(self, folder: str | Path) -> Path:
        """Write everything that `load` takes, run.json last."""
        return files.save(self, folder)

    def gray(self) -> np.ndarray:
        """A photo of nothing, H W C, that it can judge."""
        frame = self.panel.frame
        top, right, bottom, left = frame.border
        height, width = (64 + top + bottom, 64 + left + right) if frame.region is None else frame.region.shape
        return np.full((height, width, self.images["channels"]), 128, np.uint8)

    def watch(self, source: Any, **words: Any) -> Watched:
        """Judge what a camera, video or folder brings: see `visionft.inspection.line.watch.watching`."""
        from .line.watch import watching

        return watching(self, source, **words)

    def export(self, out: str | Path, data: Any, *, quiet: bool = False, **words: Any) -> Exported:
        """Write one ONNX file, kept only if it answers as PyTorch does on photos as the camera takes them, of one size.

        Words are the keys of `visionft inspect export`. Raises CheckpointError where answers differ.
        """
        from .export import export

        recipe = config.load(InspectExport, {"out": str(out), "data": data, **words})
        return export(self, recipe, console=Console(quiet=quiet))

    @classmethod
    def load(cls, folder: str | Path) -> Inspector:
        """Read what `save` wrote. Raises CheckpointError when it is something else."""
        return cls(**files.load(Path(folder)))


def _again(data: Any) -> str | None:
    """Where photos can be read again; None of those that were handed over."""
    return str(data) if isinstance(data, (str, Path)) else None
