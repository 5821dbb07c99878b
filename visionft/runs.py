"""The run folder: begun with a recipe, resumed by the same recipe, sealed by run.json."""

from __future__ import annotations

import json
import platform
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from . import __version__, checkpoint, config, parallel
from .atomic import write_text
from .errors import CheckpointError, ConfigError, nearest
from .log import Sink, fan, file_sink, tensorboard_sink


def begin(out: Path, recipe: Any, images: str = "", *, grows: Collection[str] = ()) -> None:
    """Open a run folder for this recipe: a new one, or an unfinished run of the very same recipe on the same images.

    Raises ConfigError when the folder holds a finished run, or an unfinished one of another recipe or other images
    (`images` is their fingerprint). A run that left nothing but its recipe has nothing to lose: any other may follow.
    The keys that `grows` names may differ: what they asked for before is a part of what they ask for now.
    """
    if parallel.rank() == 0:
        _begin(out, recipe, images, grows)
    parallel.wait()


def _begin(out: Path, recipe: Any, images: str, grows: Collection[str]) -> None:
    file, wanted = out / "recipe.yaml", config.plain(recipe)
    verb = f"# visionft {type(recipe).__name__.lower()};"
    head = f"{verb} images {images}"
    way = "give the same recipe and images to resume it, or set out= to another folder"
    if (out / "run.json").is_file():
        raise ConfigError(f"{out} holds a finished run; set out= to another folder, or remove it")
    if file.is_file() and any(other != file for other in out.iterdir()):
        found, text = _recipe(file)
        if not text.startswith(verb):
            raise ConfigError(f"{out} holds an unfinished run of another verb; {way}")
        if changed := _differences({**found, **{key: wanted[key] for key in grows}}, wanted):
            raise ConfigError(f"{out} holds an unfinished run of another recipe ({'; '.join(changed[:5])}); {way}")
        if not text.startswith(head + "\n"):
            raise ConfigError(f"{out} holds an unfinished run on other images; {way}")
        if not grows:
            checkpoint.clean(out)
            return
    checkpoint.clean(out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(file, f"{head}\n{yaml.safe_dump(wanted, sort_keys=False)}")


def _recipe(file: Path) -> tuple[Mapping[str, Any], str]:
    try:
        text = file.read_text(encoding="utf-8")
        found = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError):
        found = None
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{file} is damaged; remove {file.parent} or set out= to another folder")
    return found, text


def sinks(out: Path, recipe: Any, *others: Sink) -> Sink:
    """metrics.jsonl, continued where the last checkpoint stands, and whoever else listens; on process 0."""
    if parallel.rank():
        return fan()
    events = [tensorboard_sink(out / "tensorboard")] if recipe.tensorboard else []
    return fan(file_sink(out / "metrics.jsonl", checkpoint.last_step(out)), *events, *others)


def info(run: Path) -> dict[str, Any]:
    """The run.json of a finished run. Raises CheckpointError when there is none, or it is damaged."""
    file = run / "run.json"
    if not file.is_file():
        raise CheckpointError(absent(run))
    try:
        return json.loads(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error


def absent(run: Path) -> str:
    """Why there is no finished run in a folder."""
    if (run / "recipe.yaml").is_file():
        return f"{run} holds an unfinished run: run its recipe again to go on"
    return f"{run} holds no run" if run.exists() else f"{run} does not exist{nearest(run)}"


def versions() -> dict[str, str]:
    """What this run was made with."""
    names = ("torch", "torchvision", "timm", "lightly", "albumentations", "opencv-python", "numpy")
    return {"visionft": __version__, "python": platform.python_version(), **{n: version(n) for n in names}}


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], path: str = "") -> list[str]:
    out = []
    for key in {**found, **wanted}:
        a, b = found.get(key), wanted.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out += _differences(a, b, f"{path}{key}.")
        elif a != b:
            out.append(f"{path}{key}: {config.word(a)} there, {config.word(b)} here")
    return out
