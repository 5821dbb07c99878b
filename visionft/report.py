"""A report an engineer can print and sign: one HTML file, no script, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import matplotlib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image

from visionft import __version__
from visionft.atomic import write_text
from visionft.plots import INK, MUTED, RULE, SERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | int | float | tuple[float, float, float] | None  # a triple is a value and its interval
THUMBNAIL = 256  # pixels, the longer side
VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule"} | {c: f"series-{i}" for i, c in enumerate(SERIES)}


@dataclass
class Report:
    """Sections in the order they are added; `write` makes the file."""

    title: str
    subtitle: str = ""
    sections: list[dict[str, Any]] = field(default_factory=list)

    def heading(self, words: str) -> None:
        """Begin a part."""
        self.sections.append({"kind": "heading", "words": words})

    def text(self, words: str) -> None:
        """Add plain paragraphs; a blank line separates two."""
        self.sections.append({"kind": "text", "paragraphs": re.split(r"\n\s*\n", words.strip())})

    def code(self, words: str) -> None:
        """Add a command to be copied."""
        self.sections.append({"kind": "code", "words": words})

    def facts(self, facts: Mapping[str, Cell]) -> None:
        """Add names and their values: the run, the data, the machine."""
        self.sections.append(
            {"kind": "facts", "facts": {name: (cell(value), interval(value)) for name, value in facts.items()}}
        )

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str = "", note: str = "") -> None:
        """Add rows under headers; numbers are aligned on the right, (value, low, high) shows the interval."""
        columns = [_kind(column) for column in zip(*rows, strict=True)] or ["words"] * len(headers)
        self.sections.append(
            {
                "kind": "table",
                "headers": list(zip(headers, columns, strict=True)),
                "rows": [list(zip(map(cell, row), map(interval, row), columns, strict=True)) for row in rows],
                "caption": caption,
                "note": note,
            }
        )

    def figure(self, figure: Figure | bytes, caption: str = "", alt: str = "") -> None:
        """Add a matplotlib Figure or the bytes of a PNG; `alt`, else a Figure's label, says what it shows."""
        if isinstance(figure, bytes):
            picture = _image(figure, "png", alt or caption)
        else:
            picture = _svg(figure, alt or str(figure.get_label()) or caption)
        self.sections.append({"kind": "figure", "picture": picture, "caption": caption})

    def gallery(
        self, pictures: Sequence[tuple[npt.NDArray[np.uint8], str]], caption: str = "", columns: int | None = None
    ) -> None:
        """Add small pictures, H W or H W C of uint8, each with its own words; `columns` keeps rows together."""
        shown = [(_image(_thumbnail(pixels), "jpeg", words), words) for pixels, words in pictures]
        self.sections.append({"kind": "gallery", "pictures": shown, "caption": caption, "columns": columns})

    def html(self) -> str:
        """The whole document; everything that was handed in as text is escaped."""
        folder = jinja2.FileSystemLoader(Path(__file__).parent)
        environment = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True)
        return environment.get_template("report.html.j2").render(report=self, version=__version__)

    def write(self, path: str | Path) -> Path:
        """Write beside the path, then rename: a reader never sees half a report."""
        path = Path(path)
        write_text(path, self.html())
        return path


def sentence(words: str) -> str:
    """A line of the console as a sentence."""
    return f"{words[:1].upper()}{words[1:].removesuffix('.')}."


def cell(value: Cell) -> str:
    """Format a value: three decimals, thousands in groups, of a triple the value alone."""
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return _decimal(value[0])
    if isinstance(value, float):
        return _decimal(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def interval(value: Cell) -> str:
    """Format the bounds of a triple; nothing for any other value."""
    return f"{_decimal(value[1])} – {_decimal(value[2])}" if isinstance(value, tuple) else ""


def _kind(column: Sequence[Cell]) -> str:
    if any(isinstance(value, tuple) for value in column):
        return "interval"
    return "words" if any(isinstance(value, str) for value in column) else "number"


def _decimal(value: float) -> str:
    plain = value == 0 or 1e-3 <= abs(value) < 1e4
    return (f"{value:.3f}" if plain else f"{value:.3g}").replace("-", "\N{MINUS SIGN}", 1 if value < 0 else 0)


def _svg(figure: Figure, alt: str) -> Markup:
    """Draw inline, with text as text; our own colours become variables that follow the reader's light or dark."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "visionft"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has fonts for what matplotlib's lacks
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for colour, name in VARIABLES.items():
        svg = re.sub(colour, f"var(--{name})", svg, flags=re.IGNORECASE)
    return Markup('<svg role="img" aria-label="{}" ').format(alt) + Markup(svg.removeprefix("<svg "))


def _image(encoded: bytes, kind: str, alt: str) -> Markup:
    data = base64.b64encode(encoded).decode()
    return Markup('<img alt="{}" src="data:image/{};base64,{}">').format(alt, kind, data)


def _thumbnail(pixels: npt.NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
