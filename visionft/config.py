"""YAML files, `key=value` words and Python keywords are three ways of writing one frozen dataclass."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from .errors import ConfigError

T = TypeVar("T")
_REQUIRED = "(required)"


def key(default: T, meaning: str, *, options: bool = False) -> T:
    """Declare a recipe field with its default and the one line that `--help` prints.

    With `options` it names something that takes options: `objective: {name: mae, mask: 0.6}`.
    """
    factory: Any = {"default": default}
    if isinstance(default, (dict, list)):
        factory = {"default_factory": lambda: type(default)(default)}
    return typing.cast(T, field(metadata={"meaning": meaning, "options": options}, **factory))


def load(cls: type[T], *sources: str | Path | Mapping[str, Any]) -> T:
    """Build `cls` from YAML files, `a.b=value` words and mappings; later sources win, unknown keys are errors."""
    merged: dict[str, Any] = {}
    for source in sources:
        _merge(merged, _read(source))
    return _build(cls, merged, path="")


def keys(cls: type, prefix: str = "", defaults: Any = None) -> list[tuple[str, str, str, str]]:
    """List (name, type, default, meaning) of every key of a recipe, nested ones dotted."""
    rows = []
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        kind, default = hints[f.name], _default(f) if defaults is None else getattr(defaults, f.name)
        if dataclasses.is_dataclass(kind):
            rows += keys(typing.cast(type, kind), f"{prefix}{f.name}.", default)
            continue
        shown = _REQUIRED if default is dataclasses.MISSING else word(default)
        rows.append((prefix + f.name, _spell(kind), shown, f.metadata.get("meaning", "")))
    return rows


def word(value: Any) -> str:
    """A plain value as a user would write it: null, true, 0.5, [a, b]."""
    return str(yaml.safe_dump(value, default_flow_style=True).split("\n")[0])


def options(of: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a constructor: the signature is the schema."""
    parameters = inspect.signature(of).parameters.values()
    return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def bind(of: Callable[..., Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check options against a constructor's signature; returns them converted, raises ConfigError naming the key."""
    allowed = options(of)
    target = of.__init__ if inspect.isclass(of) else of
    hints = typing.get_type_hints(target)
    for name in values:
        _known(name, allowed, where, f"{where} ({getattr(of, '__name__', of)})")
    return {name: _coerce(hints.get(name, Any), value, f"{where}.{name}") for name, value in values.items()}


def named(choice: Any, where: str) -> tuple[Any, dict[str, Any]]:
    """Read `simclr`, `{name: simclr, temperature: 0.2}` or a class as (name or class, options)."""
    if not isinstance(choice, Mapping):
        return choice, {}
    if "name" not in choice:
        raise ConfigError(f"{where} needs a name beside {', '.join(choice)}, e.g. {where}.name=simclr")
    return choice["name"], {k: v for k, v in choice.items() if k != "name"}


def imported(path: str, where: str) -> Any:
    """What `module:name` names. Raises ConfigError when there is no such thing."""
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where} {path!r} cannot be imported: {error}") from error


def plain(recipe: Any) -> dict[str, Any]:
    """A recipe as YAML-able values: arrays and objects become a description of themselves."""
    return typing.cast(dict[str, Any], _plain(dataclasses.asdict(recipe)))


def suggest(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """'; did you mean X?', or where nothing is near, `otherwise`: the list of what there is, unless it is given."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else otherwise or f"; there is {', '.join(known)}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        if len(value) > 20:
            return f"{type(value).__name__} of {len(value)}"
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, type):
        return f"{value.__module__}:{value.__qualname__}"
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _read(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(source, Mapping):
        nested: dict[str, Any] = {}
        for name, value in source.items():
            _merge(nested, _nest(name, value))
        return nested
    text = str(source)
    if "=" in text and not Path(text).is_file():
        name, value = text.split("=", 1)
        try:
            return _nest(name.strip(), yaml.safe_load(value))
        except yaml.YAMLError:
            return _nest(name.strip(), value)
    return _nest_all(_yaml(Path(text)))


def _yaml(path: Path) -> Mapping[str, Any]:
    images = f"; images are named by data={path}" if path.exists() and path.suffix not in (".yaml", ".yml") else ""
    if not path.is_file():
        raise ConfigError(f"{path} is neither a recipe file nor a key=value word{images}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML{images}: {error}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path} holds {type(content).__name__}, not key: value lines{images}")
    return content


def _nest_all(content: Mapping[str, Any]) -> dict[str, Any]:
    return _read({str(k): v for k, v in content.items()})


def _nest(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return typing.cast(dict[str, Any], value)


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for name, value in other.items():
        old = into.get(name)
        if isinstance(value, Mapping) and isinstance(old, (str, list)):
            old = into[name] = {"name": old}  # objective=simclr, then objective.temperature=0.2
        if isinstance(value, Mapping) and isinstance(old, dict):
            _merge(old, value)
        elif isinstance(value, str) and isinstance(old, dict) and "name" in old:
            into[name] = {"name": value}
        else:
            into[name] = dict(value) if isinstance(value, Mapping) else value


def _build(cls: type[T], values: Mapping[str, Any], path: str) -> T:
    hints = typing.get_type_hints(cls)
    for name in values:
        _known(name, hints, path.rstrip("."), cls.__name__)
    return cls(**_defaults(cls, values, hints, path))


def _defaults(cls: type, values: Mapping[str, Any], hints: Mapping[str, Any], path: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for f in dataclasses.fields(cls):
        if f.name not in values:
            continue
        value, kind = values[f.name], hints[f.name]
        if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
            base = {n.name: getattr(_default(f), n.name) for n in dataclasses.fields(typing.cast(type, kind))}
            out[f.name] = _build(typing.cast(type, kind), {**base, **value}, f"{path}{f.name}.")
        elif f.metadata.get("options") and isinstance(value, Mapping) and "name" not in value:
            out[f.name] = {"name": _default(f), **value}
        else:
            out[f.name] = _coerce(kind, value, f"{path}{f.name}")
    return out


def _default(f: dataclasses.Field[Any]) -> Any:
    return f.default_factory() if callable(f.default_factory) else f.default


def _known(name: str, known: Iterable[str], where: str, owner: str) -> None:
    if name not in (known := list(known)):
        prefix = f"{where}." if where else ""
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {prefix}{close[0]}?" if close else f"; it has {', '.join(known) or 'no options'}"
        raise ConfigError(f"{owner} has no key {prefix}{name}{hint}")


def _coerce(kind: Any, value: Any, where: str) -> Any:
    if kind is Any or (value is None and _allows_none(kind)):
        return value
    if dataclasses.is_dataclass(kind) and isinstance(value, typing.cast(type, kind)):
        return value
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    for one in kinds:
        ok, converted = _convert(one, value)
        if ok:
            return converted
    choices = [c for one in kinds if typing.get_origin(one) is Literal for c in typing.get_args(one)]
    hint = suggest(str(value), map(str, choices)) if choices else ""
    raise ConfigError(f"{where} should be {_spell(kind)}, not {value!r}{hint}")


def _convert(kind: Any, value: Any) -> tuple[bool, Any]:
    if kind is Any:
        return True, value
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind), value
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return True, float(value)  # YAML reads 1e-3 as a string
        except ValueError:
            return False, value
    if kind is int and isinstance(value, (float, str)):
        try:
            return float(value).is_integer(), int(float(value))  # YAML reads 1e4 as a string, too
        except ValueError:
            return False, value
    if kind is str and isinstance(value, (Path, int, float)) and not isinstance(value, bool):
        return True, str(value)
    plain_kind = typing.get_origin(kind) or kind
    if plain_kind is tuple and isinstance(value, list):
        return True, tuple(value)
    if plain_kind is list and isinstance(value, str):
        return True, [yaml.safe_load(part) for part in value.split(",")]  # a,b,c on the command line
    if not isinstance(plain_kind, type) or (isinstance(value, bool) and plain_kind is not bool):
        return False, value
    return isinstance(value, plain_kind), value


def _allows_none(kind: Any) -> bool:
    return type(None) in typing.get_args(kind)


def _spell(kind: Any) -> str:
    if kind is Any:
        return "any"
    if typing.get_origin(kind) is Literal:
        return "|".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(_spell(k) if k is not type(None) else "null" for k in typing.get_args(kind))
    return getattr(typing.get_origin(kind) or kind, "__name__", str(kind))
