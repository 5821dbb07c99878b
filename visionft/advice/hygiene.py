"""Rules about the files themselves: damage, copies, leaks, classes that are missing or small, shapes, depth, colour."""

from __future__ import annotations

from collections.abc import Sequence

from .facts import Facts, Near
from .finding import SHOWN, Finding
from .words import counted, listed, short

FEW = 20  # images of a class: below, one image more or less moves its recall by five points
LONG, SPREAD = 1.6, 1.5  # sides of an image; the 95th over the 5th percentile of that
MANY = 50  # images for every pair of look-alikes: with fewer images, what copies do to a test can be seen


def unreadable(facts: Facts) -> Finding | None:
    """Files that are no images."""
    bad = facts.data.bad
    if not bad:
        return None
    what = f"{counted(len(bad), 'file')} cannot be read and {'is' if len(bad) == 1 else 'are'} left out."
    evidence = f"{listed([f'{short(name)} {why}' for name, why in bad.items()], SHOWN)}."
    return Finding("files", "act", what, evidence, "Copy them again from where they came, or leave it so (bad=skip).")


def conflicts(facts: Facts) -> Finding | None:
    """The same picture under two labels."""
    found = facts.data.conflicts
    if not found:
        return None
    what = f"{counted(len(found), 'picture')} {'is' if len(found) == 1 else 'are'} filed under more than one class."
    do = "Decide for each which label is right, and remove the other copies."
    return Finding("labels", "act", what, f"The same content: {_groups(found)}.", do)


def leaks(facts: Facts) -> Finding | None:
    """Copies, near copies or groups on both sides of the split that the data came with."""
    data = facts.data
    near = [pair for pair in data.near if pair.across]
    if not data.leaks and not near and not data.groups_across:
        return None
    told = (
        [f"{counted(len(data.leaks), 'picture')} with copies on both sides: {_groups(data.leaks)}"]
        if data.leaks
        else []
    )
    told += [f"{counted(len(near), 'pair')} that look alike: {_pairs(near)}"] if near else []
    told += [f"{counted(data.groups_across, 'group')} with images on both sides"] if data.groups_across else []
    what = "Pictures of the test folder are also there to learn from, so the test will look better than the truth."
    return Finding("leaks", "act", what, f"{'; '.join(told)}.", "Remove them from one of the two sides.")


def copies(facts: Facts) -> Finding | None:
    """The same or nearly the same picture more than once within the data."""
    data = facts.data
    near = [pair for pair in data.near if not pair.across]
    if not data.repeated and not near:
        return None
    told = [f"{data.repeated} files share their content with another"] if data.repeated else []
    mixed = [pair for pair in near if not pair.same_class]
    look = "looks" if len(near) == 1 else "look"
    odd = f", {len(mixed)} of them in two different classes" if mixed else ""
    told += [f"{counted(len(near), 'pair')} {look} alike{odd}: {_pairs(mixed or near)}"] if near else []
    serious = len(near) * MANY >= data.images
    what = "Some pictures are there more than once." if data.repeated else "Some pictures look like copies of others."
    way = (
        "Look at them. If they show the same part, name the part in a CSV with the columns path,label,group and add "
        "by_group=true: then a part is either learnt from or tested on."
    )
    kept = "Exact copies are always kept on one side of a split by themselves."
    evidence = f"{'; '.join(told)}."
    return Finding("copies", "act" if serious else "know", what, evidence, way if near else kept)


def photos(facts: Facts) -> Finding | None:
    """Unlabeled photos that are damaged, or are those of the final test."""
    found = facts.unlabeled
    if found is None or not (found.bad or found.copies_of_test):
        return None
    evidence = (
        f"Of {counted(found.looked, 'photo')} opened in {found.source}, {found.copies_of_test} are images set aside "
        f"for the final test, and {found.bad} cannot be read."
    )
    if not found.copies_of_test:
        return Finding("photos", "know", "Some photos without labels cannot be read.", evidence, "They are left out.")
    what = "Pretraining would see pictures of the final test, which may make the test look better than the truth."
    return Finding("photos", "act", what, evidence, "Take them out; visionft study does so where it picks the photos.")


def missing(facts: Facts) -> Finding | None:
    """A class that the source's own split leaves out somewhere."""
    gone = [f"{name!r} in {part}/" for part, counts in facts.data.parts.items() for name in facts.data.classes
            if not counts.get(name)]  # fmt: skip
    if not gone:
        return None
    what = f"There are no images of {listed(gone, SHOWN)}."
    evidence = "; ".join(f"{part}: {listed([f'{n} {name}' for name, n in counts.items()], 12)}"
                         for part, counts in facts.data.parts.items())  # fmt: skip
    do = "A class absent from train/ cannot be learnt, one absent from test/ cannot be judged: move some images."
    return Finding("split", "act", what, f"{evidence}.", do)


def labels(facts: Facts) -> Finding | None:
    """Classes with few images."""
    found = facts.data.classes
    few = {name: count for name, count in found.items() if count < FEW}
    if not few:
        return None
    what = f"{listed([f'{name!r} has {count}' for name, count in few.items()], SHOWN)} images: few."
    evidence = (
        f"With {min(few.values())} images a single one moves what is measured by {100 / min(few.values()):.0f} points."
    )
    return Finding("labels", "act", what, evidence, f"Collect at least {FEW}, better 50, of every class.")


def shapes(facts: Facts) -> Finding | None:
    """Pictures that are far from square, or of very different shapes."""
    data = facts.data
    middle, low, high = data.aspect
    if max(middle, 1 / middle) < LONG and high / low < SPREAD:
        return None
    (w0, h0), (w1, h1), (w2, h2) = data.sizes
    what = "Pictures are not square, and are squeezed into a square."
    evidence = (
        f"Width over height is {middle:.2f} for the median picture and {low:.2f} to {high:.2f} for nine in ten; "
        f"sizes run from {w0}x{h0} to {w2}x{h2} pixels (median {w1}x{h1})."
    )
    do = "If the subject fills a part of the picture only, cut that part out first; else a larger size= keeps more."
    return Finding("shape", "act" if max(middle, 1 / middle) > 2 else "know", what, evidence, do)


def depth(facts: Facts) -> Finding | None:
    """Images of more than 8 bits, and where their white lies."""
    data = facts.data
    if not data.deep:
        return None
    what = f"{counted(data.deep, 'picture')} {'has' if data.deep == 1 else 'have'} more than 8 bits."
    if data.white_was_set:
        bits = data.white.bit_length()
        evidence = (
            f"None exceeds {data.white}, the white of a {bits}-bit camera; read as 16 bits they are nearly black."
        )
        return Finding("depth", "act", what, evidence, f"The command says white={data.white}, as all numbers here do.")
    return Finding("depth", "know", what, f"The value {data.white} is shown as white.")


def gray(facts: Facts) -> Finding | None:
    """Pictures without colour."""
    if facts.data.gray < 0.99:
        return None
    evidence = f"In {facts.data.gray:.0%} of them red, green and blue are equal."
    return Finding("gray", "know", "Pictures are gray.", evidence, "Leave channels=3: the network was made for colour.")


def _groups(found: Sequence[Sequence[str]]) -> str:
    return listed([" = ".join(map(short, names[:SHOWN])) for names in found], SHOWN)


def _pairs(found: Sequence[Near]) -> str:
    return listed([f"{short(pair.first)} and {short(pair.second)}" for pair in found], SHOWN)
