"""Plain SVG figures: well-formed whatever is drawn, to scale, and with every word that was given."""

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.report.chart import Axis, Bars, HeatMap, Line, Plot, Words, per_cent, picture, plain

SVG = "{http://www.w3.org/2000/svg}"
NUMBERS = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf, 0.0]))


def drawn(*panels, **settings):
    root = ElementTree.fromstring(picture(panels, title="A title", **settings))
    return root, [element.text for element in root.iter(f"{SVG}text")]


@given(
    low=st.floats(-1e6, 1e6), length=st.floats(1e-6, 1e6), pixels=st.floats(60, 900),
)  # fmt: skip
def test_ticks_are_round_and_lie_within_their_axis(low, length, pixels):
    axis = Axis(low, low + length, 0, pixels)
    ticks = axis.ticks()
    assert len(ticks) <= 8
    assert all(axis.low - 1e-6 * length <= tick <= axis.high + 1e-6 * length for tick in ticks)
    if len(ticks) > 1 and abs(low) < 1e3 * length:
        step = ticks[1] - ticks[0]
        assert re.match(r"[125]\.?0*e", f"{step:.3e}")


def test_an_axis_places_its_ends_its_middle_and_its_geometric_middle():
    assert [Axis(0, 10, 100, 200).at(x) for x in (0, 5, 10)] == [100, 150, 200]
    assert Axis(1, 100, 300, 0, log=True).at(10) == pytest.approx(150)
    assert Axis(2, 900, 0, 300, log=True).ticks() == [10, 100]


def test_a_curve_goes_through_its_points_and_leaves_out_what_is_no_number():
    root, _ = drawn(Plot("p", "x", [Line("", [0, 1, 2, 3], [0.0, math.nan, 2.0, 4.0])], y_range=(0, 4), x_range=(0, 3)))
    (points,) = [element.get("points") for element in root.iter(f"{SVG}polyline")]
    (x0, y0), (x2, y2), (x3, y3) = [tuple(map(float, point.split(","))) for point in points.split()]
    assert x2 - x0 == pytest.approx(2 * (x3 - x2), abs=0.2) and y0 - y2 == pytest.approx(y2 - y3, abs=0.2) and y3 < y2


def test_a_long_curve_keeps_its_end_and_the_file_is_small():
    text = picture([Plot("p", "x", [Line("", range(100_000), [float(i) for i in range(100_000)])])], title="t")
    assert len(text) < 8_000
    last = text.split('points="')[1].split('"')[0].split()[-1]
    assert float(last.split(",")[0]) > 800


def test_bars_are_as_long_as_their_values_also_below_zero():
    bars = Bars("b", ["one", "two", "minus"], {"": [1.0, 2.0, -1.0]}, {"": [0.1, 0.1, 0.1]})
    root, words = drawn(bars)
    one, two, minus = [element for element in root.iter(f"{SVG}rect") if element.get("class") == "f0"]
    assert float(two.get("width")) == pytest.approx(2 * float(one.get("width")), abs=0.2)
    assert float(minus.get("x")) + float(minus.get("width")) == pytest.approx(float(one.get("x")), abs=0.2)
    assert {"one", "two", "minus", "1", "2", "−1"} <= set(words)
    whiskers = [element for element in root.iter(f"{SVG}line") if element.get("stroke-width") == "1.4"]
    assert all(0 < float(element.get("x1")) < float(element.get("x2")) < 900 for element in whiskers)


def test_a_square_is_the_darker_the_larger_its_value_and_the_marked_ones_have_a_frame():
    root, words = drawn(HeatMap("h", [[0.0, 0.25], [0.5, 1.0]], ["r", "s"], ["c", "d"], marked=[(1, 1)]))
    cells = [element for element in root.iter(f"{SVG}rect") if element.get("class") == "f0"][1:]
    assert [float(cell.get("fill-opacity", 1)) for cell in cells] == [0.25, 0.5, 1.0]
    assert [element.get("class") for element in root.iter(f"{SVG}rect")].count("s1") == 1
    assert {"r", "s", "c", "d"} <= set(words)


@given(words=st.text(max_size=30), values=st.lists(NUMBERS, min_size=1, max_size=6), log=st.sampled_from(["", "x", "y", "xy"]))
def test_whatever_is_drawn_is_well_formed(words, values, log):
    panels = [
        Plot(words, words, [Line(words, values, values[::-1], dots=2, dashed=True)], levels=[(0.5, words)], log=log),
        Words(words, [(words, [words]), (words, [words, words])]),
        HeatMap(words, [[0.5]], [words], [words], words, [[words]]),
    ]
    root, _ = drawn(*panels, columns=2)
    assert root.get("aria-label") == "A title"
    assert "nan" not in ElementTree.tostring(root, encoding="unicode").replace(words, "")


def test_panels_stand_in_rows_of_as_many_columns_as_were_asked_for():
    panel = Plot("p", "x", [Line("", [0, 1], [0, 1])])
    one, two = (float(drawn(*[panel] * n, height=300, columns=3)[0].get("height")) for n in (3, 4))
    assert (one, two) == (300, 556)


def test_every_colour_exists_light_and_dark():
    text = picture([Words("w", [("a", ["b"])])], title="t")
    light, dark = text.split("@media (prefers-color-scheme:dark)")
    for name in (".s0", ".f3", ".paper", ".grid", ".level"):
        assert name in light and name in dark


def test_numbers_are_written_as_people_write_them():
    assert [plain(v) for v in (0.1 + 0.2, 20_000.0, -1.5)] == ["0.3", "20,000", "−1.5"]
    assert per_cent(0.25) == "25 %"
