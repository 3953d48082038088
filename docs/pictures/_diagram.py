"""Boxes in rows and arrows between them, as SVG: narrow enough for a phone, in the colors of the page around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

import drawsvg

WIDTH = 340
_SIDE = 22  # margin for arrows that pass by
_GAP = 10
_BETWEEN = 24  # from row to row
_FONT = 12
_LINE = 15


class Box(NamedTuple):
    """A step, or with ``kind="data"`` what passes between steps; ``kind="part"`` is one with a name of its own.

    ``key`` is what arrows call it, ``text`` has a line each. An empty text leaves the place free.
    """

    key: str
    text: str
    kind: str = "step"


class _Place(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2

    @property
    def center(self) -> float:
        return (self.top + self.bottom) / 2


@dataclass
class Diagram:
    """Rows of boxes from top to bottom, the boxes of a row equally wide.

    Attributes:
        text: what the diagram shows, for those who do not see it.
        rows: its boxes.
        arrows: pairs of keys; a third entry "left" or "right" leads past the boxes on that side.
    """

    text: str
    rows: list[list[Box]]
    arrows: list[tuple[str, ...]] = field(default_factory=list)

    def svg(self, name: str) -> str:
        """The drawing, to stand within a page."""
        places, height = self._places()
        drawing = drawsvg.Drawing(
            WIDTH, height, class_="diagram", role="img", aria_label=escape(self.text, quote=True), id_prefix=name
        )
        for arrow in self.arrows:
            self._draw_arrow(drawing, places, *arrow)
        for box in (box for row in self.rows for box in row if box.text):
            self._draw_box(drawing, box, places[box.key])
        return str(drawing.as_svg(header="")).replace(f' width="{WIDTH}" height="{height}"', "", 1)

    def _places(self) -> tuple[dict[str, _Place], int]:
        sides = {arrow[2] for arrow in self.arrows if len(arrow) > 2}
        left, right = (_SIDE if side in sides else 2 for side in ("left", "right"))
        places, top = {}, 2
        for row in self.rows:
            width = (WIDTH - left - right - _GAP * (len(row) - 1)) / len(row)
            height = _LINE * max(box.text.count("\n") + 1 for box in row) + 10
            for number, box in enumerate(row):
                start = left + number * (width + _GAP)
                own = _LINE * (box.text.count("\n") + 1) + 10
                above = top + (height - own) / 2
                places[box.key] = _Place(start, above, start + width, above + own)
            top += height + _BETWEEN
        return places, top - _BETWEEN + 2

    def _draw_box(self, drawing: drawsvg.Drawing, box: Box, place: _Place) -> None:
        group = drawsvg.Group(class_=box.kind)
        size = (place.right - place.left, place.bottom - place.top)
        group.append(drawsvg.Rectangle(place.left, place.top, *size, rx=12 if box.kind == "data" else 3))
        lines = box.text.split("\n")
        first = place.center - _LINE * (len(lines) - 1) / 2
        for number, line in enumerate(lines):
            y = first + _LINE * number + 0.35 * _FONT
            group.append(drawsvg.Text(line, _FONT, place.middle, y, text_anchor="middle"))
        drawing.append(group)

    def _draw_arrow(
        self, drawing: drawsvg.Drawing, places: dict[str, _Place], start: str, end: str, side: str = ""
    ) -> None:
        a, b = places[start], places[end]
        if side:
            edge = 6 if side == "left" else WIDTH - 6
            ends = (a.left, b.left) if side == "left" else (a.right, b.right)
            points = [(ends[0], a.center), (edge, a.center), (edge, b.center), (ends[1], b.center)]
        elif abs(a.center - b.center) < 1:
            points = (
                [(a.right, a.center), (b.left, b.center)]
                if a.left < b.left
                else [(a.left, a.center), (b.right, b.center)]
            )
        else:
            out, into = (a.bottom, b.top) if a.top < b.top else (a.top, b.bottom)
            narrow = min(a, b, key=lambda place: place.right - place.left)
            if max(a.left, b.left) < narrow.middle < min(a.right, b.right):
                points = [(narrow.middle, out), (narrow.middle, into)]
            else:
                turn = into - 10 if into > out else into + 10
                points = [(a.middle, out), (a.middle, turn), (b.middle, turn), (b.middle, into)]
        path = drawsvg.Path(class_="line", fill="none")
        path.M(*points[0])
        for point in points[1:]:
            path.L(*point)
        drawing.append(path)
        (x0, y0), (x, y) = points[-2:]
        dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
        head = drawsvg.Path(class_="head")
        head.M(x, y).L(x - 6 * dx - 3.5 * dy, y - 6 * dy - 3.5 * dx).L(x - 6 * dx + 3.5 * dy, y - 6 * dy + 3.5 * dx).Z()
        drawing.append(head)
