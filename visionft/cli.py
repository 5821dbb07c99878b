"""visionft VERB [RECIPE.yaml] key=value ...: the command line says what the Python functions say."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __version__, config
from .commands import COMMANDS, PLANNED, Command
from .errors import ConfigError, VisionftError


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
    if name not in COMMANDS:
        raise ConfigError(f"there is no verb {name!r}{config.suggest(name, [*COMMANDS, 'doctor'])}")
    command = COMMANDS[name]
    if flags & {"--help", "-h"}:
        print(_help(command))
        return 0
    if unknown := [w for w in rest if w.startswith("--")]:
        raise ConfigError(
            f"there is no option {unknown[0]}{config.suggest(unknown[0], ['--help', '--dry-run', '--quiet'])}"
        )
    dry, made = "--dry-run" in flags, _load(command.keys, rest)
    if dry and not command.plans:
        raise ConfigError(f"--dry-run is for {', '.join(PLANNED)}; {name} has nothing to plan")
    from .kernels import keep_memory

    keep_memory()  # the process is ours: up to half as much speed again for large activations
    for line in command(made, quiet="--quiet" in flags, dry=dry):
        print(line)
    if not flags & {"--dry-run", "--quiet"}:
        for line in command.after(made):
            print(line, file=sys.stderr)
    return 0


def _verb(words: list[str]) -> tuple[str, list[str]]:
    """A verb of one word or of two, and the words after it."""
    two = " ".join(words[:2])
    return (two, words[2:]) if two in COMMANDS or words[0] == "inspect" else (words[0], words[1:])


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


def _overview() -> str:
    lines = [f"visionft {__version__}: transfer learning for vision, one loop", ""]
    wide = max(map(len, COMMANDS))
    lines += [f"  {name:<{wide}} {command.keys.__doc__}" for name, command in COMMANDS.items()]
    lines += [f"  {'doctor':<{wide}} Say what this machine and installation can do.", ""]
    return "\n".join([*lines, "visionft VERB --help lists every key."])


def _help(command: Command) -> str:
    rows = config.keys(command.keys)
    wide = max(len(key) for key, *_ in rows)
    lines = [f"{command.keys.__doc__}", "", f"  {command.example}", "", "keys (key = default: meaning):"]
    lines += [f"  {key:<{wide}} = {default:<12} {meaning} [{kind}]" for key, kind, default, meaning in rows]
    return "\n".join([*lines, *(["", *more] if (more := command.help()) else [])])


if __name__ == "__main__":
    raise SystemExit(main())
