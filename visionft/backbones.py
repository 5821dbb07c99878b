"""Where backbones come from: timm with weights of a hub, a package or a file, or a run of ours with its adapter."""

from __future__ import annotations

import json
import os
import re
import socket
import urllib.parse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm

from . import runs, weights
from .adapters import files as adapters
from .adapters.attach import adapt
from .backbone import Backbone
from .errors import WeightsError, first_line


def load(
    name: str,
    source: str = "auto",
    *,
    channels: int = 3,
    size: int | None = None,
    strict: bool = True,
    local: bool = False,
) -> Backbone:
    """Build a backbone and its weights.

    `name` is a timm model or a run folder; `source` is none, timm, a file, a run folder or package:NAME. `auto` takes
    the run folder, else an installed package that ships this model, else timm's hub (with `local`, its cache alone).
    Raises WeightsError when weights are missing or misfit.
    """
    if (Path(name) / "run.json").is_file():
        return _from_run(Path(name), channels, size)
    if not timm.is_model(name) and (why := _no_network(name)):
        raise WeightsError(why)
    shipped = [p for p in weights.installed() if weights.PACKAGES[p].model == name]
    if source == "auto" and shipped:
        source = f"package:{shipped[0]}"
    if source == "auto" and local and timm.is_model(name) and not _in_cache(name):
        raise WeightsError(
            f"no weights of {name} are on this machine; use {_local_sources(name)}, or weights=timm to fetch them"
        )
    if source in ("auto", "timm"):
        return _from_hub(name, channels, size, strict)
    if source == "none":
        return Backbone(name, channels=channels, size=size)
    if source.startswith("package:"):
        package, state = weights.from_package(source.removeprefix("package:"), name)
        backbone = Backbone(name, channels=channels, size=size, mean=package.mean, std=package.std)
        about = f"ImageNet weights in {package.module}"
        backbone.loaded = weights.fill(
            backbone.net, package.rename(state, backbone.net), source, strict=strict, about=about
        )
        return backbone
    path = Path(source)
    if (path / "run.json").is_file():
        found = _from_run(path, channels, size)
        if found.name != name:
            raise WeightsError(f"{path} holds {found.name}, not {name}; leave backbone={path} to take it")
        return found
    if not path.is_file():
        raise WeightsError(f"weights={source} is no file, no run folder and none of {_local_sources(name)}")
    backbone = Backbone(name, channels=channels, size=size)
    backbone.loaded = weights.fill(backbone.net, weights.read(path), str(path), strict=strict)
    return backbone


def build(spec: Mapping[str, Any]) -> Backbone:
    """The backbone that `Backbone.spec` described, with its adapter at work and without its weights."""
    plain = dict(spec)
    adapter = plain.pop("adapter", None)
    backbone = Backbone(**plain)
    if adapter:
        adapt(backbone, adapter)
    return backbone


def _no_network(name: str) -> str:
    """What a name is that was meant for a network, where it is no name of timm's."""
    path = Path(name)
    if name.startswith("package:") or path.is_file():
        package = weights.PACKAGES.get(name.removeprefix("package:"))
        return (
            f"{name} holds weights; name their network: backbone={package.model if package else 'MODEL'} weights={name}"
        )
    return runs.absent(path) if path.exists() or (len(path.parts) > 1 and path.parent.is_dir()) else ""


def _from_run(run: Path, channels: int, size: int | None) -> Backbone:
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    file = run / "backbone.safetensors"
    if info.get("networks"):
        raise WeightsError(f"{run} answers with the mean of several networks; take one: {run / info['networks'][0]}")
    if "backbone" not in info or not file.is_file():
        raise WeightsError(f"{run} has no finished backbone; resume it by running its recipe again")
    spec = {**info["backbone"], "size": size or info["backbone"]["size"]}
    if channels != spec["channels"]:
        raise WeightsError(f"{run} was trained on {spec['channels']} channels; set channels={spec['channels']}")
    adapter = spec.pop("adapter", None)
    backbone = Backbone(**spec)
    backbone.loaded = replace(weights.fill(backbone.net, weights.read(file), f"run {run}"), head=_old_head(run, info))
    if adapter:
        backbone.adapter, _ = adapters.load(run / "adapter", backbone.net)
    return backbone


def _old_head(run: Path, info: Mapping[str, Any]) -> weights.OldHead | None:
    """The head of a fine-tuning run; a pretraining run has none that tells classes."""
    if "classes" not in info:
        return None
    state = weights.read(run / "model.safetensors")
    head = {name.removeprefix("head."): tensor for name, tensor in state.items() if name.startswith("head.")}
    return weights.OldHead.of(head, tuple(info["classes"]))


def _from_hub(name: str, channels: int, size: int | None, strict: bool) -> Backbone:
    backbone = Backbone(name, channels=channels, size=size)
    try:
        _reach(name)
        state = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # no network, no such weights: each hub library has its own exceptions
        raise WeightsError(
            f"timm's weights of {name} cannot be had ({first_line(error)[:160]}); "
            f"without a network use {_local_sources(name)}"
        ) from error
    cfg = backbone.net.pretrained_cfg
    tag, file = cfg["tag"] or "default", cfg.get("hf_hub_id") or cfg.get("url") or ""
    about = f"ImageNet weights, {file}" if re.search(r"in\d+k", tag) else file
    backbone.loaded = weights.fill(backbone.net, state, f"timm ({tag})", strict=strict, about=about)
    return backbone


def _reach(name: str) -> None:
    """Fail at once when there is no network and nothing in the hub's cache, instead of after a minute of retries."""
    from huggingface_hub.constants import ENDPOINT

    if _in_cache(name):
        return
    if not any(key.lower().endswith("_proxy") for key in os.environ):  # behind a proxy names need not resolve
        socket.getaddrinfo(urllib.parse.urlsplit(ENDPOINT).hostname, 443)


def _in_cache(name: str) -> bool:
    """Whether the hub's weights of a model have been fetched before."""
    import huggingface_hub

    repository = timm.get_pretrained_cfg(name).hf_hub_id
    files = ("model.safetensors", "pytorch_model.bin")
    return bool(repository) and any(
        isinstance(huggingface_hub.try_to_load_from_cache(repository, f), str) for f in files
    )


def _local_sources(name: str) -> str:
    shipped = [f"weights=package:{p}" for p in weights.installed() if weights.PACKAGES[p].model == name]
    others = [f"backbone={weights.PACKAGES[p].model} weights=package:{p}" for p in weights.installed()]
    return ", ".join([*(shipped or others), "weights=FILE.safetensors", "weights=RUN_FOLDER", "weights=none (random)"])
