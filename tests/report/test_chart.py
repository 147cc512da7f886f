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


def test_a_long_curve_keeps_each_spike_and_a_dot_for_each_point():
    values = [1.0] * 10_000
    values[1234], values[7777] = 9.0, -9.0
    root, _ = drawn(Plot("p", "x", [Line("", range(10_000), values)], y_range=(-10, 10)))
    heights = [float(point.split(",")[1]) for line in root.iter(f"{SVG}polyline") for point in line.get("points").split()]
    middle = sorted(heights)[len(heights) // 2]
    assert sum(y < middle - 50 for y in heights) == sum(y > middle + 50 for y in heights) == 1 and len(heights) <= 302
    root, _ = drawn(Plot("p", "x", [Line("", range(700), values[:700], dots=2)]))
    assert len(list(root.iter(f"{SVG}circle"))) == 700


def test_an_area_is_filled_and_faint_and_a_note_stands_beside_its_point():
    lines = [
        Line("", [0, 1, 1, 0], [0, 0, 1, 1], 1, filled=True),
        Line("", [0.5], [0.5], note="here"),
        Line("", [1], [1], note="end"),
    ]
    root, words = drawn(Plot("p", "x", lines, levels=[(1.0, "top")], y_range=(0, 1), x_range=(0, 1)))
    (area,) = root.iter(f"{SVG}polyline")
    assert (area.get("class"), area.get("stroke-width")) == ("f1", None) and float(area.get("fill-opacity")) < 0.3
    here, end, top = (next(e for e in root.iter(f"{SVG}text") if e.text == name) for name in ("here", "end", "top"))
    assert here.get("text-anchor") == "middle" and end.get("text-anchor") == "end"
    ys = [float(point.split(",")[1]) for point in area.get("points").split()]
    assert float(here.get("y")) < (min(ys) + max(ys)) / 2, "above its point"
    assert float(top.get("y")) > min(ys), "below a level that has no room above it"


def test_steps_have_no_half_ticks_and_many_powers_of_ten_are_not_all_named():
    _, words = drawn(Plot("p", "", [Line("", [1, 2], [5.0, 5.0])], y_range=(5, 6)))
    assert {"1", "2"} <= set(words) and not {"1.5", "1.2"} & set(words)
    _, words = drawn(Plot("p", "", [Line("", [1.0, 2.5], [5.0, 5.0])], y_range=(5, 6)))
    assert "1.5" in words
    ticks = Axis(1, 1e30, 300, 0, log=True).ticks()
    assert 4 <= len(ticks) <= 8 and ticks == pytest.approx([10.0 ** round(math.log10(tick)) for tick in ticks])


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
    assert [plain(v) for v in (0.1 + 0.2, 20_000.0, -1.5, 2e-5)] == ["0.3", "20,000", "−1.5", "2e−5"]
    assert per_cent(0.25) == "25 %"
