"""visionft VERB [RECIPE.yaml] key=value ...: the command line says what the Python functions say."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __version__, config, recipe, verbs
from .errors import ConfigError, VisionftError
from .inspection import verbs as inspection
from .log import Console

VERBS: dict[str, tuple[type, str]] = {
    "quickstart": (verbs.Quickstart, "visionft quickstart"),
    "pretrain": (recipe.Pretrain, "visionft pretrain data=photos/ backbone=resnet18 objective=simclr minutes=30"),
    "finetune": (recipe.Finetune, "visionft finetune data=labelled/ backbone=runs/pretrain"),
    "lr-find": (verbs.LrFind, "visionft lr-find data=labelled/ backbone=runs/pretrain"),
    "evaluate": (verbs.Evaluate, "visionft evaluate runs/finetune data=labelled/"),
    "predict": (verbs.Predict, "visionft predict runs/finetune IMAGE..."),
    "rebalance": (verbs.Rebalance, "visionft rebalance runs/finetune out=runs/fair"),
    "embed": (verbs.Embed, "visionft embed data=photos/ backbone=runs/pretrain out=features.npz"),
    "study": (verbs.Study, "visionft study data=labelled/ unlabeled=photos/"),
    "rank": (verbs.Rank, "visionft rank data=labelled/ backbones=resnet18,convnext_atto,runs/pretrain"),
    "advise": (verbs.Advise, "visionft advise data=labelled/ unlabeled=photos/ out=advice.html"),
    "search": (verbs.Search, "visionft search data=labelled/ over.optim.lr=1e-5..1e-3 over.tune=full|layerwise"),
    "objectives": (verbs.Objectives, "visionft objectives [NAME] backbone=resnet18 size=128"),
    "augment": (verbs.Augment, "visionft augment policy=ssl data=photos/ out=sheet.png"),
    "inspect fit": (inspection.InspectFit, "visionft inspect fit data=good/ false_reject=0.01 out=runs/inspect"),
    "inspect predict": (inspection.InspectPredict, "visionft inspect predict runs/inspect PHOTO... out=verdicts"),
    "inspect add-defects": (inspection.AddDefects, "visionft inspect add-defects runs/inspect data=bad/"),
    "inspect evaluate": (inspection.InspectEvaluate, "visionft inspect evaluate runs/inspect data=test/"),
    "inspect watch": (inspection.InspectWatch, "visionft inspect watch runs/inspect source=0 out=line/"),
    "inspect export": (inspection.InspectExport, "visionft inspect export runs/inspect data=photos/ out=part.onnx"),
}
PLANNED = ("pretrain", "finetune", "inspect fit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; 0 when it worked, 2 when the words were wrong, 130 when it was interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except VisionftError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'stopped'}", file=sys.stderr)
        return 130


def _run(words: list[str]) -> int:
    flags = {w for w in words if w in ("--help", "-h", "--dry-run", "--quiet", "--version")}
    words = [w for w in words if w not in flags]
    if "--version" in flags:
        print(__version__)
        return 0
    if not words or words[0] == "help":
        print(_overview())
        return 0
    name, rest = _verb(words)
    if name == "doctor":
        from .doctor import doctor

        print("\n".join(doctor()))
        return 0
    if name not in VERBS:
        raise ConfigError(f"there is no verb {name!r}{config.suggest(name, [*VERBS, 'doctor'])}")
    cls, example = VERBS[name]
    if flags & {"--help", "-h"}:
        print(_help(name, cls, example))
        return 0
    if unknown := [w for w in rest if w.startswith("--")]:
        raise ConfigError(
            f"there is no option {unknown[0]}{config.suggest(unknown[0], ['--help', '--dry-run', '--quiet'])}"
        )
    return _call(name, _load(cls, rest), quiet="--quiet" in flags, dry="--dry-run" in flags)


def _verb(words: list[str]) -> tuple[str, list[str]]:
    """A verb of one word or of two, and the words after it."""
    two = " ".join(words[:2])
    return (two, words[2:]) if two in VERBS or words[0] == "inspect" else (words[0], words[1:])


def _load(cls: type, words: list[str]) -> Any:
    """Positional words: a recipe file, or the run folder (or a name) and what follows it."""
    named = [w for w in words if "=" in w and not Path(w).exists()]
    loose = [w for w in words if w not in named]
    keys = {f.name for f in dataclasses.fields(cls)}
    first = next((key for key in ("run", "name") if key in keys), None)
    if first is None:
        return config.load(cls, *loose, *named)
    lead: dict[str, Any] = {first: loose[0]} if loose else {}
    if loose[1:]:
        second = next((key for key in ("images", "source") if key in keys), "data")
        lead[second] = loose[1:] if second == "images" else loose[1]
    return config.load(cls, lead, *named)


def _call(name: str, made: Any, *, quiet: bool, dry: bool) -> int:
    from .kernels import keep_memory

    keep_memory()  # the process is ours: up to half as much speed again for large activations
    if dry and name not in PLANNED:
        raise ConfigError(f"--dry-run is for {', '.join(PLANNED)}; {name} has nothing to plan")
    if name == "quickstart":
        from .journeys.quickstart import quickstart

        quickstart(made, quiet=quiet)
        return 0
    if name.startswith("inspect "):
        from .inspection import run

        function = getattr(run, _function(name.removeprefix("inspect ")))
        print("\n".join(function(made, console=Console(quiet=quiet), **({"dry": True} if dry else {}))))
        return 0
    from . import api

    options: dict[str, Any] = {} if name in ("predict", "objectives") else {"quiet": quiet}
    result = getattr(api, _function(name))(made, **options, **({"dry_run": True} if dry else {}))
    for line in _lines(name, result, made) if not dry else result:
        print(line)
    return 0


def _function(verb: str) -> str:
    return verb.replace("-", "_")


def _lines(name: str, result: Any, made: Any) -> list[str]:
    if name == "predict":
        return [str(p) for p in result]
    if name == "objectives":
        from .catalogue import lines

        return lines(result, made.backbone, made.size, whole=bool(made.name))
    if name in ("rank", "search", "advise"):
        return list(result.lines())
    if name == "lr-find":
        return [result.words, *([f"drawn in {made.figure}"] if made.figure else [])]
    if name == "rebalance":
        return [made.out]
    if name == "evaluate":
        return [json.dumps(result, indent=2)]
    if name == "embed":
        return [f"{result[1].shape[0]} images, {result[1].shape[1]} features" + (f" in {made.out}" if made.out else "")]
    return [str(result if isinstance(result, Path) else result.out)]


def _overview() -> str:
    lines = [f"visionft {__version__}: transfer learning for vision, one loop", ""]
    wide = max(map(len, VERBS))
    lines += [f"  {name:<{wide}} {cls.__doc__}" for name, (cls, _) in VERBS.items()]
    lines += [f"  {'doctor':<{wide}} Say what this machine and installation can do.", ""]
    return "\n".join([*lines, "visionft VERB --help lists every key."])


def _help(name: str, cls: type, example: str) -> str:
    rows = config.keys(cls)
    wide = max(len(key) for key, *_ in rows)
    lines = [f"{cls.__doc__}", "", f"  {example}", "", "keys (key = default: meaning):"]
    lines += [f"  {key:<{wide}} = {default:<12} {meaning} [{kind}]" for key, kind, default, meaning in rows]
    return "\n".join([*lines, *_objectives(name), *_eyes(name)])


def _objectives(name: str) -> list[str]:
    """The options of what can be trained, read from constructors and their docstrings."""
    if name not in ("pretrain", "finetune", "lr-find"):
        return []
    from .objective import OBJECTIVES, find, options

    word, lines = ("objective", []) if name == "pretrain" else ("task", [])
    for known, path in OBJECTIVES.items():
        if ("pretraining" in path) != (name == "pretrain"):
            continue
        cls, _ = find(known)
        lines += ["", f"{word}={known}: {(cls.__doc__ or '').splitlines()[0]}"]
        lines += [f"  {word}.{k} = {default}  {meaning}" for k, (default, meaning) in options(cls).items()]
    return lines


def _eyes(name: str) -> list[str]:
    """What `inspect fit` may look at, and by what."""
    if name != "inspect fit":
        return []
    from .inspection.eyes import lines

    return ["", *lines()]


if __name__ == "__main__":
    raise SystemExit(main())
