"""What all figures share: colors that suit a page, and PNGs."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from engine.visualization.overlay import Color

DPI: Final = 160


@dataclass(frozen=True)
class Theme:
    """Colors that suit a page."""

    text: str
    grid: str
    background: str
    others: tuple[str, str, str]
    """Of what our own figures are compared with."""


LIGHT: Final = Theme("#1d2129", "#d9dce3", "#ffffff", ("#b9bec9", "#a3b3d1", "#5b6b8c"))
DARK: Final = Theme("#e8eaf0", "#3a3f4b", "#171a21", ("#565c6a", "#5f7196", "#93a5cc"))


def hex_color(color: Color) -> str:
    """Return an RGB color as Matplotlib writes it."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def to_png(figure: Figure) -> bytes:
    """Draw a figure."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
