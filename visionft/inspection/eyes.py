"""Eyes by name: what each is good for, and which look where nobody chooses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from visionft import config
from visionft.errors import ConfigError
from visionft.objective import meanings, options

from .eye import Eye
from .scorers import SCORERS, make
from .sight import Sight

EYES: dict[str, tuple[str, dict[str, Any]]] = {  # name -> what it sees, and how it is made
    "patches": (
        "patches unlike any of good parts, of a large photo those of the same tile: spots, scratches, cracks",
        {"layers": [-2, -1], "scorer": {"name": "neighbours", "aligned": True}},
    ),
    "anywhere": (
        "patches unlike any of good parts in all of a large photo: rolls of cloth, parts that never lie alike",
        {"layers": [-2, -1], "scorer": "neighbours"},
    ),
    "places": (
        "patches unlike those of good parts at the same place, where parts lie alike under the camera",
        {"layers": [-3, -2], "scorer": {"name": "gaussian", "aligned": True}},
    ),
    "whole": (
        "images that differ as a whole: another weave, colour, pattern",
        {"layers": [-4, -3, -2], "pool": 1, "scorer": "statistics"},
    ),
    "texture": (
        "places that are rougher or smoother than those of good parts, in the finest details of the image itself",
        {"what": "bands", "scorer": "gaussian"},
    ),
    "grain": (
        "images whose finest details differ as a whole from those of good parts",
        {"what": "bands", "scorer": "statistics"},
    ),
    "student": (
        "places whose deep features do not follow from their shallow ones as they do in good parts",
        {"layers": [-3, -2, -1], "scorer": "student"},
    ),
    "surroundings": (
        "places that do not follow from what surrounds them as they do in good parts: a fault in a regular pattern",
        {"layers": [-2, -1], "scorer": "surroundings"},
    ),
}
# solar cells, magnetic tiles and a board with spots of 12 px: AUROC of patches by layers -2, -1 .897, .901 and 1.00, by
# layers -3, -2 .890, .850 and .94; with places beside them .906 and .950. Places without pooling draw finer maps (AUPRO
# on tiles .745 in place of .719) and decide worse: AUROC .900 on solar cells, .667 on cloth, in place of .904 and .717
DEFAULT = ("patches", "places")
# What defects may choose from. Offered the other two as well, 6, 20 or 100 of them chose as well as without: AUROC
# .902, .903 and .905 on solar cells, in place of .902, .903 and .904; .946, .949 and .950 on magnetic tiles, in place
# of .947, .949 and .950. These two alone reach .84 and .89 there, .83 and .88 here
OFFERED = ("patches", "places", "whole", "texture", "grain")
SIGHT = {field.name for field in dataclasses.fields(Sight)}


def chosen(choice: Any, scale: float = 1.0) -> list[Eye]:
    """Eyes of a recipe's `eyes`: auto, names, or mappings with a name and what should differ; `scale` is of all others.

    Raises ConfigError for an unknown name or key, with the nearest valid one.
    """
    if choice == "auto":
        choice = DEFAULT
    if isinstance(choice, str):
        choice = choice.split(",")
    if isinstance(choice, Mapping):
        choice = [choice]
    if not isinstance(choice, Sequence) or not choice:
        raise ConfigError(f"eyes={choice!r} names no eye; there is auto, {', '.join(EYES)}")
    return [eye(one, scale) for one in choice]


def eye(choice: Any, scale: float = 1.0) -> Eye:
    """One eye, by name or as a mapping {name, scorer, top, and what a sight takes}."""
    name, changes = config.named(choice.strip() if isinstance(choice, str) else choice, "eyes")
    if name not in EYES:
        raise ConfigError(f"there is no eye {name!r}{config.suggest(str(name), EYES)}")
    words = {**EYES[name][1], "scale": scale, **changes}
    if unknown := [key for key in words if key not in SIGHT | {"scorer", "top"}]:
        raise ConfigError(f"the eye {name} has no {unknown[0]}{config.suggest(unknown[0], SIGHT | {'scorer', 'top'})}")
    look = config.load(Sight, {key: value for key, value in words.items() if key in SIGHT})
    return Eye(look, make(words["scorer"]), int(words.get("top", Eye.top)))


def lines() -> list[str]:
    """Every eye and what it is good for; every scorer of good parts, what it asks, and its options."""
    found = ["eyes, by name, each with what it is made of:"]
    for name, (what, words) in EYES.items():
        found += [f"  {name}: {what}", f"    {json.dumps(words)}"]
    found += ["", "keys of every eye:"]
    for cls in (Sight, Eye):
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        found += [f"  {key} = {defaults[key]}  {meaning}" for key, meaning in meanings(cls).items() if key in defaults]
    found += ["", "scorers of good parts, with their options:"]
    for name, scorer in SCORERS.items():
        if not scorer.learns_defects:
            found.append(f"  {name}: {(scorer.__doc__ or '').splitlines()[0]}")
            found += [f"    {key} = {default}  {meaning}" for key, (default, meaning) in options(scorer).items()]
    return found


def said(eye: Eye) -> str:
    """What an eye looks at, in words."""
    what = f"layers {', '.join(map(str, eye.sight.layers))}" if eye.sight.what == "layers" else "finest bands"
    where = "" if eye.sight.scale == 1 else f" at {eye.sight.scale:g} times the resolution"
    return f"{what} of the {'backbone' if eye.sight.what == 'layers' else 'photo itself'}{where}"
