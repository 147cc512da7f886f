"""Charts in a page: every number at its place, a dot for what was measured, the colours of the page alone."""

import re
from xml.etree import ElementTree

import pytest
from hostile_pages import DRAWN, PAYLOADS, Tags

from tinyllm.report.chart import Line
from tinyllm.report.page import STYLE
from tinyllm.report.page_charts import GREY, bar, best, held_out, line_chart


def places(svg, tag="circle"):
    return [(float(e.get("cx")), float(e.get("cy"))) for e in ElementTree.fromstring(svg).iter(tag)]


def test_every_held_out_measurement_has_its_dot_at_its_place_also_across_a_long_gap():
    dotted = held_out([0, 1, 2, 1000], [4.0, 3.0, 2.5, 1.0])
    svg = line_chart([Line("training", list(range(1001)), [3.0] * 1001), dotted], title="loss")
    dots = places(svg)
    assert len(dots) == 4
    xs, ys = zip(*dots, strict=True)
    assert xs[1] - xs[0] == pytest.approx((xs[3] - xs[0]) / 1000, abs=0.11)  # linear, to the drawing's tenth
    assert ys[0] < ys[1] < ys[2] < ys[3], "a smaller loss stands lower"
    assert (ys[1] - ys[0]) / (ys[3] - ys[0]) == pytest.approx(1 / 3, abs=0.01)


def test_one_measurement_alone_is_a_dot_and_none_no_chart():
    assert len(places(line_chart([Line("", [3], [2.0])], title="loss"))) == 1
    assert line_chart([Line("", [], [])], title="loss") == "" == line_chart([], title="loss")


def test_constant_curves_and_steps_are_drawn():
    svg = line_chart([Line("", [1, 2], [0.0, 0.0]), held_out([1, 2], [0.0, 0.0])], title="flat")
    assert "nan" not in svg.lower() and len(places(svg)) == 2


def test_a_level_near_the_curve_is_marked_and_one_far_away_is_not():
    lines = [Line("", [0, 1], [2.0, 4.0])]
    assert "coin" in line_chart(lines, title="t", level=(1.5, "a coin"))
    assert "coin" not in line_chart(lines, title="t", level=(90.0, "a coin"))
    assert "coin" not in line_chart(lines, title="t", level=(float("inf"), "a coin"))


def test_a_far_level_is_marked_if_that_is_asked_for():
    assert "coin" in line_chart([Line("", [0, 1], [2.0, 4.0])], title="t", level=(90.0, "a coin"), far=True)


def test_the_best_is_marked_at_its_place_with_its_number():
    dotted = held_out([1, 2, 3], [3.0, 1.25, 2.0])
    svg = line_chart([dotted, best(dotted)], title="loss")
    dots = places(svg)
    assert len(dots) == 4 and dots[3] == dots[1] and ">best 1.250<" in svg


def test_an_axis_begins_at_its_bottom_unless_a_value_is_lower():
    zero, one = ">0</text>", ">1</text>"
    assert zero in line_chart([Line("", [0, 9], [8.0, 9.0])], title="t", across="", bottom=0).split("<polyline")[0]
    flat = line_chart([Line("", [5, 6], [0.0, 0.0])], title="t", bottom=0)
    assert zero in flat and one in flat, "zeros alone are shown on a scale to 1"
    lower = line_chart([Line("", [5, 6], [-3.0, 0.0])], title="t", bottom=0)
    assert ">−3</text>" in lower or ">−2</text>" in lower


def test_names_stand_in_the_legend_when_there_are_two_curves():
    one, two = Line("training", [0, 1], [1, 2]), Line("held out", [0, 1], [1, 2], 1)
    assert "held out" in line_chart([one, two], title="t") and "training" not in line_chart([one], title="t")


def test_no_text_becomes_markup_and_colours_are_the_pages():
    payload = " ".join(PAYLOADS)
    svg = line_chart(
        [Line(payload, [0, 1], [1, 2]), Line("b", [0, 1], [1, 2])], title=payload, across=payload, level=(1, payload)
    )
    assert Tags(svg).tags <= DRAWN and not {name for name in Tags(svg).names if name.startswith("on")}
    assert not re.findall("#[0-9a-f]{6}", svg)


@pytest.mark.parametrize(("share", "full"), [(0.0, "0.0"), (0.833, "83.3"), (1.0, "100.0"), (1.7, "100.0"), (-1, "0.0")])
def test_a_bar_is_as_wide_as_its_share(share, full):
    assert f'<rect width="{full}"' in bar(share)
    assert "H" in bar(0.5, error=0.1) and "M40.0 5H60.0" in bar(0.5, error=0.1)


def test_the_page_has_a_rule_for_every_class_that_a_chart_uses():
    lines = [Line("a", [0, 1], [1, 2], colour, dots=2, note="here") for colour in (0, 1, GREY)]
    used = set(re.findall(r'class="([^"]+)"', line_chart(lines, title="t", level=(1.5, "level"))))
    named = {name for classes in used for name in classes.split()}
    assert {"s2", "f2", "rim", "level"} <= named
    assert [name for name in sorted(named) if not re.search(rf"\.{name}\b", STYLE)] == []
