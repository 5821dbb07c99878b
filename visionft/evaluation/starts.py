"""What a study begins with: random or pretrained weights, as they are or after self-supervision, by name."""

from __future__ import annotations

from dataclasses import dataclass

BASES = {"scratch": "scratch", "imagenet": "pretrained"}
OWN = "ssl"  # by the study's own objective; any other is named
USUAL = ("scratch", "ssl", "imagenet", "imagenet+ssl")


@dataclass(frozen=True)
class Start:
    """`imagenet`, `imagenet+ssl`, `imagenet+vicreg`, `scratch`, `scratch+dino`; `ssl` is short for `scratch+ssl`."""

    name: str

    @property
    def base(self) -> str:
        """The start without self-supervision."""
        return "scratch" if self.name == OWN else self.name.partition("+")[0]

    @property
    def by(self) -> str:
        """The objective that comes before any label: OWN is the study's; empty where there is none."""
        return OWN if self.name == OWN else self.name.partition("+")[2]

    @property
    def known(self) -> bool:
        """Whether the name is made as they are; an objective is not looked up."""
        return self.base in BASES and not self.name.endswith("+")

    @property
    def pretrained(self) -> bool:
        """Whether somebody's weights are where it begins."""
        return self.base == "imagenet"

    @property
    def how(self) -> str:
        """The objective in words."""
        return "SSL" if self.by == OWN else self.by

    def __str__(self) -> str:
        return BASES[self.base] + (f" + {self.how}" if self.by else "")
