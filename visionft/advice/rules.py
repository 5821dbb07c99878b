"""From measured facts to findings: every rule is a function of plain numbers, so that it can be read and tested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from visionft.evaluation.decision import RARE

from .facts import AtSize, Facts
from .finding import Finding
from .hygiene import conflicts, copies, depth, gray, labels, leaks, missing, photos, shapes, unreadable
from .words import counted, listed, milliseconds, percent, points, short

OWN, FAR = 0.15, 0.25  # shift of batch statistics: see `distance`
SATURATED = 0.98  # of the probe, at the low end: little is left to win
WORST = 12  # labels that look wrong, in a sentence


def findings(facts: Facts) -> list[Finding]:
    """Every rule's finding, those to act upon first; the order is otherwise that of the rules."""
    found = [made for rule in RULES if (made := rule(facts)) is not None]
    return sorted(found, key=lambda one: one.level != "act")


def groups(facts: Facts) -> Finding | None:
    """A group column, and whether answers hold for groups that were never seen."""
    data, gap = facts.data, facts.measured.group_gap
    if not data.groups:
        return None
    if facts.measured.new_groups is None or gap is None:
        what = f"The data names {counted(data.groups, 'group')}."
        few = "too few to test on groups that were never learnt from; the report tells how good answers are in each"
        return Finding("groups", "know", what, f"They are {few}.")
    mean, low, high = gap
    proven = low > 0
    worse = "On groups never seen before, answers are less often right."
    what = worse if proven else "That answers get worse on groups never seen before is not proven."
    evidence = (
        f"The quick classifier is right in {percent(facts.measured.new_groups)} on groups it has not learnt from, "
        f"{points((-mean, -high, -low))} from its score on mixed groups ({data.groups} groups)."
    )
    do = "The command keeps groups apart (by_group=true), so its test tells what to expect of new ones."
    return Finding("groups", "act" if proven else "know", what, evidence, do if data.by_group else "")


def balance(facts: Facts) -> Finding | None:
    """Rare classes, and whether balancing would find more of them."""
    measured, (most, least, ratio) = facts.measured, _extremes(facts)
    if ratio < RARE or measured.rebalancing is None:
        return None
    what = f"{most!r} has {ratio:.0f} times as many images as {least!r}."
    evidence = (
        f"The quick classifier finds {measured.recall.get(least, 0):.0%} of {least!r} and "
        f"{measured.recall.get(most, 0):.0%} of {most!r}. With every class counting alike, {measured.balanced:.1%} is "
        f"right; weighing answers by rarity changes that by {points(measured.rebalancing)}, and the plain share of "
        f"right answers from {measured.probe[0]:.1%} to {measured.rebalanced_accuracy:.1%}."
    )
    if rebalances(facts):
        do = "The command says decide=balanced. If a false alarm costs as much as a miss, say decide=likeliest."
        return Finding("balance", "act", what, evidence, do)
    return Finding(
        "balance",
        "know",
        what,
        evidence,
        "Weighing is not proven to help here: add decide=likeliest if no class matters more than another.",
    )


def rebalances(facts: Facts) -> bool:
    """Whether classes are uneven and balancing is proven to raise the mean recall."""
    gain = facts.measured.rebalancing
    return _extremes(facts)[2] >= RARE and gain is not None and gain[1] > 0


def _extremes(facts: Facts) -> tuple[str, str, float]:
    """The commonest class, the rarest, and how many times as many images the one has."""
    found = facts.data.classes
    most, least = max(found, key=lambda c: found[c]), min(found, key=lambda c: found[c])
    return most, least, found[most] / max(1, found[least])


def size(facts: Facts) -> Finding | None:
    """Does the network see enough pixels? Measured at more than one size where the images allow it."""
    short, now = facts.data.short, facts.size
    if not facts.measured.sizes:
        return None
    base, *others = facts.measured.sizes
    if not others:
        return None
    other, best = others[0], best_size(facts)
    evidence = (
        f"Pictures are {short} pixels on their shorter side. The quick classifier is right in {percent(base.probe)} at "
        f"{base.size} pixels and {percent(other.probe)} at {other.size}: {points(other.gain)}. "
        f"An image then takes {milliseconds(other.ms)} instead of {milliseconds(base.ms)}."
    )
    if other.size > now and best == other.size:
        what = f"Details get lost when pictures are reduced to {now} pixels."
        cost = f"The command uses size={best}; training takes about {(best / now) ** 2:.0f} times as long."
        return Finding("size", "act", what, evidence, cost)
    if other.size > now:
        what = f"Showing the network more than {now} pixels is not proven to help."
        do = "If a defect is only a few pixels wide, cut pictures into tiles: the classifier sees whole pictures."
        return Finding("size", "know", what, evidence, do)
    if best == other.size:
        what = f"Pictures are smaller than the {now} pixels asked for; fewer do as well."
        return Finding("size", "know", what, evidence, f"The command uses size={best}, which is faster.")
    what = f"Pictures are smaller than the {now} pixels asked for, but enlarging them helps this network."
    return Finding("size", "know", what, evidence, f"Keep size={now}.")


def best_size(facts: Facts) -> int:
    """A larger size if it is proven better, a smaller one if it is proven no worse than by one point."""
    base, *others = facts.measured.sizes or (AtSize(size=facts.size, probe=(0, 0, 0), gain=(0, 0, 0), ms=0),)
    better = [one.size for one in others if one.size > base.size and one.gain[1] > 0]
    cheaper = [one.size for one in others if one.size < base.size and one.gain[1] > -0.01]
    return (better or cheaper or [base.size])[0]


def distance(facts: Facts) -> Finding | None:
    """How unlike the photos that the weights were trained on these images are.

    Measured with tf_efficientnet_lite0 at 224 pixels: ImageNet .09, COCO .12, Flickr .13, clothes .15; street scenes
    from a car .26, steel .28, magnetic tiles .29, solar cells .30, blood cells .33, woven fabric .35.
    """
    shift = facts.measured.shift
    if shift is None or not facts.pretrained:
        return None
    kind = kind_of(shift)
    what = {"own": "Pictures are like those the network already knows.",
            "between": "Pictures differ somewhat from those the network already knows.",
            "far": "Pictures are unlike those the network already knows."}[kind]  # fmt: skip
    evidence = (
        f"What the network's layers see on average is {shift:.2f} standard deviations from what they saw in training. "
        f"Everyday photos: 0.09 to {OWN}; steel, solar cells, fabric: 0.28 to 0.35 (with tf_efficientnet_lite0)."
    )
    return Finding(
        "distance", "know", what, evidence, "This decides nothing alone: what the classifier reaches counts more."
    )


def kind_of(shift: float | None) -> Literal["own", "between", "far"]:
    """In words; unknown counts as between."""
    if shift is None:
        return "between"
    return "own" if shift <= OWN + 0.02 else "far" if shift >= FAR else "between"


def floor(facts: Facts) -> Finding | None:
    """Is anything to be seen at all?"""
    measured = facts.measured
    if measured.probe[1] > measured.chance[0]:
        return None
    what = "So far nothing shows that these classes can be told apart by these pictures."
    evidence = (
        f"The quick classifier is right in {percent(measured.probe)}, always naming the commonest class in "
        f"{measured.chance[0]:.1%}."
    )
    do = "Could a colleague tell them apart at this size? If so: more images, a larger size=, or cut out what matters."
    return Finding("floor", "act", what, evidence, do)


def more_labels(facts: Facts) -> Finding | None:
    """Would more labels help?"""
    measured = facts.measured
    if measured.doubling is None or len(measured.curve) < 2 or measured.probe[1] >= SATURATED:
        return None
    (half, *_), (full, *_) = measured.curve[-2:]
    evidence = f"From {half} to {full} labels the quick classifier gained {points(measured.doubling)}."
    if measured.doubling[1] > 0:
        what = "More labels would help."
        return Finding("more labels", "know", what, evidence, "Expect about that, or less, of doubling them again.")
    what = "Doubling the labels brought nothing that could be measured."
    return Finding(
        "more labels", "know", what, evidence, "Better pictures or a larger size may do more than more labels."
    )


def suspects(facts: Facts) -> Finding | None:
    """Labels that look wrong."""
    found = facts.measured.suspects
    if not found:
        return None
    one, many = "picture looks like another class than its label", "pictures look like other classes than their labels"
    what = f"{len(found)} {one if len(found) == 1 else many} say{'s' if len(found) == 1 else ''}."
    told = [f"{short(one.name)} is {one.label}, looks {one.said} ({one.probability:.0%})" for one in found]
    evidence = f"Classifier and most similar pictures, not told the label, agree on another: {listed(told, WORST)}."
    return Finding(
        "label errors",
        "act",
        what,
        evidence,
        "Look at them: a label may be wrong, or the picture a rare one. Correct only what is wrong.",
    )


Rule = Callable[[Facts], "Finding | None"]
RULES: tuple[Rule, ...] = (
    floor, unreadable, conflicts, leaks, photos, missing, labels, groups, size, balance, suspects, copies, shapes,
    depth, gray, distance, more_labels,
)  # fmt: skip
