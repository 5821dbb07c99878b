"""Advice as a page: the command first, then why, what was found, and whether pretraining is worth trying."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from .commands import Choice, Pretraining
from .facts import Facts
from .finding import Finding
from .words import counted, listed, minutes, percent

WIDE = 88  # columns
FEWEST = 6  # classes named, the worst found


@dataclass(frozen=True)
class Cost:
    """What a run takes here."""

    seconds: float
    memory: float  # bytes; 0 where it is next to nothing
    precision: str

    def __str__(self) -> str:
        memory = f" and {self.memory / 2**30:.1f} GiB of memory" if self.memory else ""
        return f"about {minutes(self.seconds)}{memory}"


@dataclass(frozen=True)
class Costs:
    """What the commands of a page take."""

    chosen: Cost
    ladder: Cost  # at most
    quick: Cost | None = None
    pretraining: Cost | None = None


@dataclass(frozen=True)
class Said:
    """Everything a page says."""

    facts: Facts
    found: Sequence[Finding]
    choice: Choice
    costs: Costs
    pretraining: Pretraining
    commands: dict[str, str]  # purpose -> command line
    seconds: float  # that measuring took


def lines(said: Said) -> list[str]:
    """The page, for a terminal."""
    facts = said.facts
    title = f"{facts.data.source}: {counted(facts.data.images, 'image')}, {', '.join(_classes(facts))}"
    out = [
        *_wrapped(title),
        "",
        f"RUN THIS ({said.costs.chosen}{now(facts)}):",
        *command(said.commands["finetune"]),
        "",
    ]
    out += _wrapped(said.choice.why)
    for words, wanted in beside(said).items():
        out += [*_wrapped(words), *command(wanted)]
    out += ["", "WHAT WAS MEASURED", *table(facts), *_wrapped(by_class(facts), "  "), *_wrapped(basis(facts))]
    for level, words in (("act", "DO SOMETHING ABOUT"), ("know", "GOOD TO KNOW")):
        some = [one for one in said.found if one.level == level]
        if some:
            out += ["", words]
        for one in some:
            out += _wrapped(f"{one.what} {one.evidence}", "- ")
            out += _wrapped(one.do, "  -> ") if one.do else []
    out += ["", "IS PRETRAINING ON PHOTOS WITHOUT LABELS WORTH TRYING?"]
    out += _wrapped(f"{said.pretraining.worth.capitalize()}. {said.pretraining.why}")
    for words, wanted in after(said).items():
        out += [*_wrapped(words), *command(wanted)]
    return [*out, "", *_wrapped(machine(said))]


def table(facts: Facts) -> list[str]:
    """Three ways of answering, from the dullest to the best, with their ranges."""
    m = facts.measured
    rows = {
        "always the commonest class": m.chance,
        "as the most similar pictures (kNN)": m.knn,
        "quick classifier (linear probe)": m.probe,
    }
    return [f"  {name:<36} {percent(value)} right" for name, value in rows.items()]


def by_class(facts: Facts) -> str:
    """How many of each class the quick classifier finds, the worst first."""
    found = sorted(facts.measured.recall.items(), key=lambda item: item[1])
    told = [f"{share:.0%} of {name}" for name, share in found]
    return f"the quick classifier finds {listed(told, FEWEST)}"


def basis(facts: Facts) -> str:
    """What the numbers stand on."""
    m = facts.measured
    sample = f"{m.images:,} labelled images" + (
        "" if m.images + m.aside >= facts.data.images else ", drawn from every class"
    )
    return (
        f"In brackets: where the true value lies with 95 % certainty. Measured on {sample}, each asked about while it "
        f"was not learnt from, by {facts.backbone} as it comes. The {m.aside:,} images that the final test will use "
        "had no part in this."
    )


def beside(said: Said) -> dict[str, str]:
    """The same for less time and for more: words -> command."""
    out = {}
    if "quick" in said.commands:
        out[f"No time for that? The classifier alone ({said.costs.quick}):"] = said.commands["quick"]
    if "ladder" in said.commands:
        out[
            f"Time for more? This goes on to gentler rates, averages and an ensemble for as long as images kept for "
            f"choosing say that it pays (at most {minutes(said.costs.ladder.seconds)}):"
        ] = said.commands["ladder"]
    return out


def after(said: Said) -> dict[str, str]:
    """What to do about pretraining: words -> command."""
    if said.pretraining.worth == "no":
        return {}
    commands, out = said.commands, {}
    if "pretrain" in commands:
        out[f"Try it ({said.costs.pretraining}):"] = commands["pretrain"]
        out["then learn from the labels as above, from these weights:"] = commands["finetune from pretrained"]
        out["Prove it, at several numbers of labels:"] = commands["study"]
    else:
        spent = said.costs.pretraining
        cost = f"about {minutes(spent.seconds)} of pretraining" if spent else ""
        out[f"Prove it on these images ({cost}), or name more photos by unlabeled=DIR:"] = commands["study"]
    return out


def now(facts: Facts) -> str:
    """A warning to stand beside times that were measured while others worked."""
    return ", as busy as the machine is now" if facts.machine.busy else ""


def machine(said: Said) -> str:
    """Where it was measured."""
    m = said.facts.machine
    gpu = f"the GPU {m.gpu}, which will be faster than these times of the processor" if m.gpu else "no GPU"
    bf16 = "fast 16-bit arithmetic" if m.bf16 else "no fast 16-bit arithmetic"
    busy = "Other programs kept it busy meanwhile, so expect less when it is idle. " if m.busy else ""
    return (
        f"Times are measured on this machine: {counted(m.cores, 'core')}, {bf16}, {gpu}, {m.memory / 2**30:.0f} GiB "
        f"free; training uses {said.costs.chosen.precision}. {busy}This advice took {minutes(said.seconds)}."
    )


def _classes(facts: Facts) -> list[str]:
    shown = [f"{count:,} {name}" for name, count in facts.data.classes.items()]
    return shown if len(shown) <= 6 else [*shown[:5], f"{len(shown) - 5} more classes"]


def _wrapped(words: str, lead: str = "") -> list[str]:
    return textwrap.wrap(
        words, WIDE, initial_indent=lead, subsequent_indent=" " * len(lead), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def command(line: str) -> list[str]:
    """Broken between words, where a shell reads on after a backslash."""
    out = [" "]
    for word in map(shlex.quote, shlex.split(line)):
        if len(out[-1]) + len(word) + 3 > WIDE:
            out[-1] += " \\"
            out.append(f"    {word}")
        else:
            out[-1] += f" {word}"
    return out
