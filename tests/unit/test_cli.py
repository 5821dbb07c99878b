"""The command line lists every word it takes, names the nearest to one it does not, and starts in milliseconds."""

from __future__ import annotations

import pkgutil
import statistics
import subprocess
import sys

import pytest

import visionft
from visionft import config
from visionft.cli import main
from visionft.commands import COMMANDS
from visionft.objective import OBJECTIVES, find


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_lists_every_key_with_its_default_and_meaning(capsys, verb):
    code, out, _ = said(capsys, verb, "--help")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for name, _, default, meaning in config.keys(COMMANDS[verb].keys):
        line = next((line for line in lines if line.startswith(f"{name} = ")), "")
        assert line.startswith(f"{name} = {default}"), name
        assert " ".join(meaning.split()) in line, name
        assert meaning


@pytest.mark.parametrize("name", OBJECTIVES)
def test_help_lists_every_option_of_an_objective_with_its_meaning(capsys, name):
    verb, word = ("finetune", "task") if name in ("classify", "heads") else ("pretrain", "objective")
    _, out, _ = said(capsys, verb, "-h")
    part = out[out.index(f"{word}={name}") :]
    cls, _ = find(name)
    meanings = dict(line.strip().split(": ", 1) for line in cls.__doc__.splitlines() if ": " in line)
    for option in config.options(cls):
        line = next(line for line in part.splitlines() if line.strip().startswith(f"{word}.{option} "))
        assert meanings[option] in line


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_without_a_verb_there_is_a_list_of_verbs(capsys, words):
    code, out, _ = said(capsys, *words)
    assert code == 0
    for verb in [*COMMANDS, "doctor"]:
        assert f"  {verb} " in out


def test_the_version_is_the_packages(capsys):
    assert said(capsys, "--version") == (0, f"{visionft.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["pretain"], "did you mean pretrain?"),
        (["pretrain", "optim.lrr=1"], "did you mean optim.lr?"),
        (["pretrain", "data=x", "objective=simclrr"], "did you mean simclr?"),
        (["pretrain", "data=x", "objective=simclr", "objective.temprature=1"], "did you mean objective.temperature?"),
        (["finetune", "data=x", "tune=layerwize"], "did you mean layerwise?"),
        (["finetune", "data=x", "precision=bf61"], "did you mean bf16?"),
        (["objectives", "simclrr"], "did you mean simclr?"),
        (["objectives", "size=0"], "size=0 makes no sense"),
        (["pretrain", "--dryrun"], "did you mean --dry-run?"),
        (["evaluate", "--dry-run", "somewhere"], "--dry-run is for pretrain, finetune, inspect fit"),
        (["pretrain", "nowhere.yaml"], "nowhere.yaml is neither a recipe file nor a key=value word"),
        (["pretrain", "batch=10", "accumulate=3"], "batch=10"),
        (["pretrain"], "data"),
        (["finetune"], "data"),
        (["predict"], "run"),
        (["evaluate"], "run"),
        (["embed"], "data"),
        (["augment"], "data"),
        (["predict", "no_such_run", "x.png"], "no_such_run"),
        (["finetune", "data=no_such_folder"], "no_such_folder"),
    ],
    ids=" ".join,
)
def test_a_wrong_word_is_one_line_that_names_it_and_the_way_out(capsys, tmp_path, monkeypatch, words, hint):
    monkeypatch.chdir(tmp_path)
    code, out, err = said(capsys, *words)
    assert code == 2
    assert hint in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_the_module_and_the_command_are_the_same():
    command = [sys.executable, "-m", "visionft.cli", "--version"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (made.returncode, made.stdout) == (0, f"{visionft.__version__}\n")


def python(code: str) -> float:
    """Seconds that a fresh interpreter reports for a piece of code."""
    timed = f"import time; began = time.perf_counter()\n{code}\nprint(time.perf_counter() - began)"
    made = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True, timeout=60)
    return float(made.stdout.split()[-1])


@pytest.mark.parametrize(
    "code",
    [
        "import visionft",
        "import visionft; dir(visionft); visionft.ConfigError; visionft.Pretrain",
        "from visionft.cli import main; main(['--version'])",
    ],
)
def test_importing_costs_milliseconds_and_leaves_torch_alone(code):
    spent = statistics.median(python(code) for _ in range(3))
    assert spent < 0.3
    heavy = {"torch", "timm", "cv2", "albumentations", "matplotlib", "sklearn"}
    python(f"{code}\nimport sys; assert not ({heavy} & set(sys.modules)), {heavy} & set(sys.modules)")


def test_everything_offered_can_be_had():
    for name in visionft.__all__:
        assert getattr(visionft, name) is not None
    with pytest.raises(AttributeError, match="it offers"):
        visionft.pretrane  # noqa: B018  (asking is the point)


def test_what_is_offered_stays_itself_whatever_is_imported_later():
    """A submodule of the same name would take its place at the first import."""
    assert sorted(visionft.__all__) == sorted(visionft._EXPORTS)
    modules = {module.name for module in pkgutil.iter_modules(visionft.__path__)}
    assert not modules & set(visionft.__all__)


def test_a_finished_run_says_on_stderr_where_to_look_and_what_comes_next(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("visionft.commands._imported", lambda path: lambda made, **flags: tmp_path)
    words = "pretrain", "data=x", f"out={tmp_path}"
    then = f"next: visionft finetune data=LABELLED backbone={tmp_path}\n"
    assert said(capsys, *words) == (0, f"{tmp_path}\n", then)
    (tmp_path / "report.html").touch()
    assert said(capsys, *words) == (0, f"{tmp_path}\n", f"report: {tmp_path}/report.html\n{then}")
    assert said(capsys, *words, "--quiet") == (0, f"{tmp_path}\n", "")


def test_an_interrupted_run_is_no_stack_trace(capsys, monkeypatch):
    def stops(words: list[str]) -> int:
        raise KeyboardInterrupt("stopped after step 3; the same command goes on from here")

    monkeypatch.setattr("visionft.cli._run", stops)
    code, _, err = said(capsys, "pretrain")
    assert code == 130
    assert "goes on from here" in err


def test_what_needs_no_torch_imports_none():
    light = "config", "recipe", "errors", "order", "log", "interrupt", "data.records", "data.sources", "data.scan"
    python(f"import sys, {', '.join(f'visionft.{name}' for name in light)}\nassert 'torch' not in sys.modules")
