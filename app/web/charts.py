"""Charts as SVG: shapes that stretch, with words and numbers beside them in HTML, and the same as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.web.shown import number

# Of the picture's own coordinates: a place is as wide as this, and the picture as high.
STEP, HEIGHT = 12, 100
_GAP = 1


@dataclass(frozen=True, slots=True)
class Series:
    """What is drawn in one colour, the class of the stylesheet."""

    label: str
    colour: str
    values: Sequence[int]


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Values of several series at the same places, each of which has a label.

    `beside` is told and in the table, but not drawn; `edge` is the number at the upper edge where it is known before.
    """

    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    beside: Sequence[Series] = ()
    edge: int | None = None

    @property
    def told(self) -> Sequence[Series]:
        """All that is told of a place."""
        return [*self.series, *self.beside]

    @property
    def top(self) -> int:
        """The round number at the upper edge."""
        if self.edge is not None:
            return self.edge
        highest = max((value for one in self.series for value in one.values), default=0)
        size = int(f"1{'0' * (len(str(max(highest, 1))) - 1)}")
        return next(n * size for n in (1, 2, 3, 4, 5, 6, 8, 10) if n * size >= highest)

    @property
    def width(self) -> int:
        return max(len(self.labels), 1) * STEP

    @property
    def marks(self) -> list[str]:
        """The labels that are written below: the first, the last, and one between."""
        at = sorted({0, len(self.labels) // 2, len(self.labels) - 1})
        return [self.labels[place] for place in at] if self.labels else []

    @property
    def places(self) -> list[tuple[int, str, list[Bar]]]:
        """Where each place begins, what it says under the pointer, and its bars."""
        wide = (STEP - 2 * _GAP) / max(len(self.series), 1)
        return [
            (at * STEP, self._told(at), [self._bar(at, k, wide) for k, one in enumerate(self.series) if one.values[at]])
            for at in range(len(self.labels))
        ]

    def _told(self, at: int) -> str:
        told = ", ".join(f"{one.label} {number(one.values[at])}" for one in self.told)
        return f"{self.labels[at]}: {told}"

    def _bar(self, at: int, k: int, wide: float) -> Bar:
        height = max(round(HEIGHT * max(self.series[k].values[at], 0) / self.top, 2), 1)
        return Bar(
            round(at * STEP + _GAP + k * wide, 2), HEIGHT - height, round(wide, 2), height, self.series[k].colour
        )

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The points of each series' line, and its colour."""
        return [
            (
                " ".join(
                    f"{at * STEP + STEP / 2:g},{HEIGHT - round(HEIGHT * max(value, 0) / self.top, 2):g}"
                    for at, value in enumerate(one.values)
                ),
                one.colour,
            )
            for one in self.series
        ]
