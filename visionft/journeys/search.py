"""Which keys suit these labels? Trials judged by validation images, the hopeless ones ended early; test images wait."""

from __future__ import annotations

import importlib
import json
import math
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from visionft import config, parallel, plots, runs
from visionft.atomic import write_text
from visionft.best import falls
from visionft.data.prepare import Prepared, prepare
from visionft.errors import ConfigError
from visionft.log import Console
from visionft.order import seed_of
from visionft.recipe import Finetune
from visionft.report import Report
from visionft.tasks.complete import complete
from visionft.tasks.run import finetune
from visionft.verbs import Search

from .space import space
from .trial import tried

STARTS, WARM = 5, 2  # trials that nothing ends early; evaluations of each that end none
BUDGET = ("trials", "minutes", "refit", "out")  # keys that may change between calls


@dataclass
class Searched:
    """A search as far as it went: rows from the best to the worst, and the recipe of the best."""

    out: Path
    metric: str
    rows: list[dict[str, Any]]  # number, state, value, step, seconds, and the keys tried
    best: Finetune
    run: Any = None  # the finished run of that recipe, with `refit`

    def lines(self) -> list[str]:
        """For a terminal."""
        ended = sum(row["state"] == "pruned" for row in self.rows)
        top = self.rows[0]
        return [
            f"best of {len(self.rows)} trials ({ended} ended early): {self.metric} {top['value']:.4g} on validation "
            f"images that it was chosen by; {self.out / 'report.html'}",
            f"its run is {self.best.out}" if (Path(self.best.out) / "run.json").is_file() else command(self.best),
        ]


def search(recipe: Search, *, console: Console | None = None) -> Searched:
    """Try recipes until there are `trials` of them or the time is over, and write `out` with a report.

    Raises ConfigError before any work; the same command goes on where it was, in the middle of a trial, too.
    """
    console = console or Console()
    if parallel.world() > 1:
        raise ConfigError("search runs in one process; start it without torchrun")
    optuna, base = _optuna(), _base(recipe)
    over = space(recipe.over, base)
    shared = complete(config.load(Finetune, base))
    if shared.tune == "probe" and "tune" not in over:
        raise ConfigError("tune=probe is solved, not trained: there is nothing to search; take another finetune.tune=")
    ready = prepare(recipe, console, labelled=True)
    out, downwards = Path(recipe.out), falls(shared.metric)
    out.mkdir(parents=True, exist_ok=True)
    with _study(optuna, out / "study.db", "minimize" if downwards else "maximize") as study:
        _same(study, recipe, ready)
        done = _go_on(optuna, study)
        while len(done) < recipe.trials and _minutes(done) < (recipe.minutes or float("inf")):
            seed = seed_of(recipe.seed, len(done), 0) % 2**32
            study.sampler = optuna.samplers.TPESampler(seed=seed)  # what is tried next depends on what was, not on when
            trial = study.ask()
            row = tried(recipe.out, base, over, trial, ready, console)
            trial.set_user_attr("row", row)
            pruned = optuna.trial.TrialState.PRUNED if row["state"] == "pruned" else None
            study.tell(trial, None if pruned else row["value"], state=pruned)
            done = _finished(optuna, study)
            _say(console, done, row, shared.metric)
        rows = [dict(t.user_attrs["row"]) for t in done]
    return _conclude(recipe, shared, base, rows, ready, console)


def _conclude(
    recipe: Search, shared: Finetune, base: Mapping[str, Any], rows: list[dict[str, Any]], ready: Prepared,
    console: Console,
) -> Searched:  # fmt: skip
    out, downwards = Path(recipe.out), falls(shared.metric)
    told = [{"trial": at, "value": row["value"]} for at, row in enumerate(rows, 1) if row["state"] == "complete"]
    rows = sorted(rows, key=lambda row: (row["state"] == "pruned", row["value"] if downwards else -row["value"]))
    if not rows or rows[0]["state"] == "pruned":
        raise ConfigError(f"no trial of {out} came to its end; give it more minutes or trials, or smaller rates")
    best = config.load(Finetune, base, rows[0]["keys"], {"out": str(out / f"best-{rows[0]['trial']}")})
    write_text(out / "best.yaml", f"# {command(best)}\n{yaml.safe_dump(config.plain(best), sort_keys=False)}")
    said = [{**row, "value": row["value"] if math.isfinite(row["value"]) else None} for row in rows]
    write_text(out / "search.json", json.dumps(said, indent=2, allow_nan=False))
    _report(out, shared.metric, rows, told)
    found = Searched(out, shared.metric, rows, best)
    if recipe.refit and not (Path(best.out) / "run.json").is_file():
        found.run = finetune(best, console=console, prepared=ready)
    return found


def _base(recipe: Search) -> dict[str, Any]:
    """Keys that all trials share."""
    images = {name: getattr(recipe, name) for name in ("data", "backbone", "weights", "size", "channels", "white",
                                                        "bad", "cache")}  # fmt: skip
    return {**images, "seed": recipe.seed, **recipe.finetune}


def _optuna() -> Any:
    try:
        found = importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError("search needs Optuna: pip install 'visionft[search]'") from error
    found.logging.set_verbosity(found.logging.WARNING)
    return found


@contextmanager
def _study(optuna: Any, file: Path, direction: str) -> Iterator[Any]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTS, n_warmup_steps=WARM)
    try:
        yield optuna.create_study(
            storage=storage, study_name="visionft", direction=direction, pruner=pruner, load_if_exists=True
        )
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _same(study: Any, recipe: Search, ready: Prepared) -> None:
    """Raise ConfigError unless this is the search that the folder holds; its budget may have changed."""
    wanted = {k: v for k, v in config.plain(recipe).items() if k not in BUDGET} | {"images": ready.table.fingerprint}
    found = study.user_attrs.get("recipe")
    if found is None:
        study.set_user_attr("recipe", wanted)
        return
    changed = [key for key in wanted if json.dumps(found.get(key)) != json.dumps(wanted[key])]
    if changed:
        raise ConfigError(f"{recipe.out} holds a search of another recipe ({', '.join(changed)}); set out= to another")


def _finished(optuna: Any, study: Any) -> list[Any]:
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return list(study.get_trials(states=states))


def _go_on(optuna: Any, study: Any) -> list[Any]:
    """The finished trials; one that was interrupted is put first in the queue, with its keys and so with its folder."""
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return _finished(optuna, study)


def _minutes(done: list[Any]) -> float:
    return float(sum(trial.user_attrs["row"]["seconds"] for trial in done)) / 60


def _say(console: Console, done: list[Any], row: Mapping[str, Any], metric: str) -> None:
    how = "ended early" if row["state"] == "pruned" else "ran to its end"
    console.say(f"  {len(done)} done: {metric} {row['value']:.4g} after {row['seconds']:.0f} s, {how}")


def command(recipe: Finetune) -> str:
    """What to type to run this recipe: the keys that differ from their defaults."""
    default, plain = dict(_words(config.plain(Finetune()))), dict(_words(config.plain(recipe)))
    words = [f"{name}={_shown(value)}" for name, value in plain.items() if default.get(name, ...) != value]
    return " ".join(["visionft finetune", *map(shlex.quote, words)])


def _words(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, Mapping) and name != "tune":
            yield from _words(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _report(out: Path, metric: str, rows: list[dict[str, Any]], told: list[dict[str, Any]]) -> None:
    report = Report("Search", f"{out}: {len(rows)} trials")
    report.text(f"Trials are judged by {metric} on the validation images. The best of many is chosen by these very "
                "images, which flatters it: only a test on other images, once, says what it is worth.")  # fmt: skip
    names = [*rows[0]["keys"]]
    cells = [
        [row["value"], row["state"], row["step"], row["seconds"], *(row["keys"][n] for n in names)] for row in rows
    ]
    report.table([metric, "", "best step", "seconds", *names], cells, "Trials, from the best; those ended early last")
    report.figure(plots.curves(told, ["value"], x="trial"), f"{metric} in the order of the trials")
    report.heading("This run")
    report.facts(runs.versions())
    report.write(out / "report.html")
