"""Charts: what is drawn where."""

import pytest

from app.web.charts import HEIGHT, Chart, Series


@pytest.mark.parametrize(("highest", "top"), [(0, 1), (1, 1), (7, 8), (9, 10), (11, 20), (99, 100), (1234, 2000)])
def test_the_upper_edge_is_a_round_number(highest, top) -> None:
    assert Chart("x", ["a"], [Series("sent", "c1", [highest])]).top == top


def test_bars_and_lines_stand_on_the_lower_edge() -> None:
    chart = Chart("x", ["mon", "tue", "wed"], [Series("sent", "c1", [4, 0, 1]), Series("failed", "c3", [2, -1, 0])])
    (_, told, bars), (_, _, none), (x, _, [bar]) = chart.places
    assert told == "mon: sent 4, failed 2"
    assert [(one.y, one.height) for one in bars] == [(0, HEIGHT), (HEIGHT / 2, HEIGHT / 2)]
    assert (none[0].height, bar.y + bar.height, bar.x > x) == (1, HEIGHT, True)
    assert chart.lines == [("6,0 18,100 30,75", "c1"), ("6,50 18,100 30,100", "c3")]
    assert chart.marks == ["mon", "tue", "wed"]


def test_nothing_is_drawn_of_nothing() -> None:
    chart = Chart("x", [], [])
    assert (chart.places, chart.lines, chart.marks, chart.top) == ([], [], [], 1)


def test_what_stands_beside_is_told_and_not_drawn() -> None:
    rate = Series("rate", "c2", [80, 0])
    chart = Chart("x", ["mon", "tue"], [rate], [Series("sent", "", [40, 5])], edge=100)
    assert [(told, len(bars)) for _, told, bars in chart.places] == [
        ("mon: rate 80, sent 40", 1),
        ("tue: rate 0, sent 5", 0),
    ]
    assert (chart.top, len(chart.lines)) == (100, 1)
