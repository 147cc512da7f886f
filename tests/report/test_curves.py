"""Curves of a run: smoothed without lag, every value and every spike there, a level where it belongs, the page's colours."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tinyllm.report.curves import Curve, curve_chart, curve_row, light_and_smooth, per_rollout, smooth
from tinyllm.report.run_record import RunRecord

NO_SETTINGS = dict(environment={}, samples=[], mixture=[], n_parameters=None, tokens_per_byte=None, n_unreadable=0)


def run_of(tmp_path, records, **settings):
    return RunRecord(path=tmp_path, settings=settings, records=records, **NO_SETTINGS)


def one(tmp_path, values, name="x"):
    return run_of(tmp_path, [{"step": i, name: value} for i, value in enumerate(values, 1)])


def parts(svg, tag):
    return [element for element in ElementTree.fromstring(svg).iter() if element.tag == tag]


def words(svg):
    return [element.text for element in parts(svg, "text")]


def points(svg):
    """Of each curve, by its class."""
    return [
        (line.get("class"), [tuple(map(float, point.split(","))) for point in line.get("points").split()])
        for line in parts(svg, "polyline")
    ]


def test_smoothing_keeps_a_straight_line_straight_and_does_not_lag():
    line = [3.0 - 0.1 * i for i in range(50)]
    np.testing.assert_allclose(smooth(line, 5)[:45], line[:45], rtol=1e-12)  # the end averages backwards
    assert smooth([7.0] * 9, 3) == [7.0] * 9
    assert smooth([], 3) == []


def test_smoothing_is_the_mean_of_the_neighbours():
    values = np.random.default_rng(0).normal(size=30)
    smoothed = smooth(list(values), 4)
    assert smoothed[10] == pytest.approx(values[6:15].mean(), rel=1e-12)
    assert smoothed[0] == values[0] and smoothed[2] == pytest.approx(values[:5].mean())
    assert smoothed[-1] == pytest.approx(values[-5:].mean(), rel=1e-12)


def test_each_value_is_drawn_and_their_smoothed_curve_with_the_name():
    each, over = light_and_smooth("training", ([1, 2, 3], [3.0, 9.0, 3.0]), 1)
    assert (each.name, list(each.ys), each.faint, each.colour) == ("", [3.0, 9.0, 3.0], True, 1)
    assert (over.name, list(over.ys), over.faint, over.colour) == ("training", [3.0, 5.0, 6.0], False, 1)
    dots, _ = light_and_smooth("", ([1, 2], [3.0, 9.0]), dots=True)
    assert dots.dots and not dots.joined


@pytest.mark.parametrize("n", [1, 2, 3, 40, 5000])
@pytest.mark.parametrize("log", [False, True])
def test_a_run_of_any_length_has_its_curve_in_the_colours_of_the_page_alone(tmp_path, n, log):
    svg = curve_chart(one(tmp_path, [2 + np.sin(i) for i in range(n)]), Curve("x", "a title", "", log=log))
    assert "a title" in words(svg) and not re.search(r"#[0-9a-f]{3,6}\b|rgb|style=|http|nan", svg)
    assert len(parts(svg, "circle")) == (n == 1) and [kind for kind, _ in points(svg)] == ["s0", "s0"] * (n > 1)
    ticks = [float(word.replace(",", "")) for word in words(svg) if re.fullmatch(r"[\d,.]+", word)]
    assert len(ticks) >= 3 and len(svg) < 12_000
    along = [e.text for e in parts(svg, "text") if e.get("text-anchor") == "middle" and e.text != "step"]
    assert along and all("." not in word for word in along), "there is no half a step"


def test_nothing_measured_is_no_chart_and_a_row_leaves_it_out(tmp_path):
    run = one(tmp_path, [1.0, 2.0])
    assert curve_chart(run, Curve("y", "y", "")) == "" == curve_row(run, [Curve("y", "y", "")])
    row = curve_row(run, [Curve("y", "y", "the hint of y"), Curve("x", "x", "the hint of x")])
    assert row.count("<svg") == 1 and "the hint of x" in row and "the hint of y" not in row


def test_a_level_is_a_number_or_a_setting_and_is_drawn_however_far(tmp_path):
    run = run_of(tmp_path, [{"step": 1, "x": 0.1}, {"step": 2, "x": 0.2}], rollout={"limit": 48})
    by_setting = curve_chart(run, Curve("x", "t", "", "limit", "at most"))
    assert "at most 48" in words(by_setting)
    by_number = curve_chart(run, Curve("x", "t", "", 0.5, "a coin"))
    (level,) = [line for line in parts(by_number, "line") if line.get("class") == "level"]
    assert "a coin" in words(by_number) and float(level.get("y1")) < min(y for _, curve in points(by_number) for _, y in curve)
    for none in (Curve("x", "t", "", "other", "at most"), Curve("x", "t", "")):
        assert 'class="level"' not in curve_chart(run, none)


def test_a_norm_that_is_never_clipped_has_no_level_and_zeros_have_no_place_on_a_logarithmic_scale(tmp_path):
    run = run_of(tmp_path, [{"step": i, "x": x} for i, x in enumerate([0.0, 1.0, 10.0, 100.0])], training={"grad_clip": 0})
    svg = curve_chart(run, Curve("x", "norm", "", "grad_clip", "clipped above", log=True))
    assert 'class="level"' not in svg and {"1", "10", "100"} <= set(words(svg))
    heights = [y for _, y in points(svg)[0][1]]
    assert len(heights) == 3 and heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.11)
    assert curve_chart(one(tmp_path, [0.0, 0.0]), Curve("x", "norm", "", log=True)) == ""


def test_an_axis_begins_at_its_bottom_unless_a_value_is_lower(tmp_path):
    bottom = Curve("x", "t", "", bottom=0)
    assert "0" in words(curve_chart(one(tmp_path, [5.0, 6.0]), bottom))
    assert "0" not in words(curve_chart(one(tmp_path, [5.0, 6.0]), Curve("x", "t", "")))
    below = curve_chart(one(tmp_path, [-1.0, 6.0]), bottom)
    assert all(y < 206 for _, curve in points(below) for _, y in curve), "above the numbers of the axis"


def test_an_axis_of_zeros_is_not_a_thousandth_high(tmp_path):
    shown = words(curve_chart(one(tmp_path, [0.0] * 9), Curve("x", "t", "", bottom=0)))
    assert {"0", "1"} <= set(shown)


def test_a_second_curve_has_its_colour_and_both_have_names(tmp_path):
    run = run_of(tmp_path, [{"step": i, "x": i, "y": 2 * i} for i in range(1, 9)])
    svg = curve_chart(run, Curve("x", "t", "", other="y", labels=("chosen", "rejected")))
    assert {"chosen", "rejected"} <= set(words(svg)) and {kind for kind, _ in points(svg)} == {"s0", "s1"}
    assert max(y for kind, curve in points(svg) for _, y in curve) < 206
    alone = curve_chart(one(tmp_path, [1.0, 2.0]), Curve("x", "t", "", other="y", labels=("chosen", "rejected")))
    assert "chosen" not in words(alone), "the title says what it is"


def test_what_was_held_out_is_dots_and_its_best_has_a_number(tmp_path):
    records = [{"step": i, "loss": 5 - i / 20} | ({"val_loss": 4 + abs(i - 20) / 10} if i % 10 == 0 else {}) for i in range(41)]
    svg = curve_chart(run_of(tmp_path, records), Curve("loss", "t", "", other="val_loss", labels=("training", "held out")))
    dots = [(float(dot.get("cx")), float(dot.get("cy")), float(dot.get("r"))) for dot in parts(svg, "circle")]
    assert len(dots) == 5 + 1 and "best 4.000" in words(svg)
    lowest = max(dots[:5], key=lambda dot: dot[1])
    assert dots[5][:2] == lowest[:2] and dots[5][2] > lowest[2], "the mark is at the lowest of the dots"


def test_a_setting_is_drawn_as_it_is_and_not_smoothed(tmp_path):
    rates = [0.0, 1.0, 1.0, 1.0]
    (curve,) = points(curve_chart(one(tmp_path, rates), Curve("x", "t", "", noisy=False)))
    assert curve[1][1][1] == curve[1][2][1] == curve[1][3][1] < curve[1][0][1]


def test_updates_are_averaged_over_each_rollout_unless_each_step_is_asked_for(tmp_path):
    records = [
        {"step": i + 1, "x": float(i % 4)} | ({"rollout": i // 4 + 1, "score": i} if i % 4 == 0 else {}) for i in range(12)
    ]
    run = run_of(tmp_path, records)
    assert per_rollout(run, "x") == ([1, 5, 9], [1.5] * 3)
    assert per_rollout(run, "score") == ([1, 5, 9], [0, 4, 8])
    assert len(points(curve_chart(run, Curve("x", "t", "")))[0][1]) == 3
    assert len(points(curve_chart(run, Curve("x", "t", "", each_step=True)))[0][1]) == 12


def test_without_rollouts_every_step_is_a_point(tmp_path):
    run = run_of(tmp_path, [{"step": 1, "loss": 2.0}, {"step": 2}, {"step": 3, "loss": 1.0}])
    assert per_rollout(run, "loss") == ([1, 3], [2, 1])
    assert per_rollout(run, "score") == ([], [])


def test_steps_before_the_first_rollout_of_a_log_are_kept(tmp_path):
    run = run_of(tmp_path, [{"step": 4, "ratio": 1.5}, {"step": 5, "rollout": 2, "ratio": 1.0}])
    assert per_rollout(run, "ratio") == ([4, 5], [1.5, 1.0])


def test_the_same_run_gives_the_same_chart(tmp_path):
    one_, two = (curve_chart(one(tmp_path, [1.0, 3.0, 2.0]), Curve("x", "t", "")) for _ in range(2))
    assert one_ == two
