"""The picture of a step: boxes lie within their parents, nothing overlaps, text is text."""

import re
from xml.etree import ElementTree

import pytest

from tinyllm.report.flame import WIDTH, icicle, icicle_boxes, profile_page, timeline, timeline_boxes
from tinyllm.report.profile import BACKWARD, CODE, KERNEL, OP, Profile, Row, Span

SPANS = [
    Span(OP, "linear", 0.001, 0.004), Span(KERNEL, "matmul", 0.002, 0.003), Span(CODE, "_multiply", 0.002, 0.002),
    Span(BACKWARD, "backward", 0.006, 0.010), Span(OP, "linear", 0.007, 0.008), Span(CODE, "_sum", 0.0071, 0.001),
    Span(OP, "optimizer step", 0.017, 0.002),
]  # fmt: skip
ROWS = [
    Row("forward", "linear", 1, 4.0, {"matmul": 2.0, "<other>": 0.5}, 1e6), Row("forward", "between", 0, 2.0, {}, 0),
    Row("backward", "linear", 1, 8.0, {"matmul": 7.0}, 0), Row("backward", "between", 0, 2.0, {}, 0),
    Row("optimizer", "optimizer step", 1, 2.0, {}, 0), Row("optimizer", "between", 0, 1.0, {}, 0),
]  # fmt: skip
FOUND = Profile([18.0, 19.0, 20.0], [19.0, 20.0, 21.0], [1.0, 1.0, 1.0], ROWS, 120.0, 0.25, SPANS)


@pytest.mark.parametrize("boxes", [list(icicle_boxes(FOUND)), list(timeline_boxes(FOUND))], ids=["icicle", "timeline"])
def test_no_boxes_of_a_row_overlap(boxes):
    for row in {box.row for box in boxes}:
        own = sorted((box for box in boxes if box.row == row), key=lambda box: box.start)
        for left, right in zip(own, own[1:], strict=False):
            assert left.start + left.length <= right.start + 1e-9


def test_each_box_of_the_icicle_lies_within_one_above_it_and_phases_fill_the_step():
    boxes = list(icicle_boxes(FOUND))
    for box in boxes:
        above = [b for b in boxes if b.row == box.row - 1 and b.start <= box.start + 1e-9]
        assert box.row == 0 or any(box.start + box.length <= b.start + b.length + 1e-9 for b in above), box
    assert sum(box.length for box in boxes if box.row == 1) == pytest.approx(19.0) == boxes[0].length
    assert sum(box.length for box in boxes if box.row == 2) == pytest.approx(19.0)


def test_lengths_are_drawn_to_scale_and_fit():
    for svg in (icicle(FOUND), timeline(FOUND)):
        rectangles = [node for node in ElementTree.fromstring(svg).iter() if node.tag == "rect"]
        assert re.search(r">products</text>.*>optimizer</text>", svg, re.S) and ">attention</text>" not in svg
        assert rectangles and all(float(r.get("x")) + float(r.get("width")) <= WIDTH + 0.1 for r in rectangles)
    forward = re.search(r"<title>forward: 6.00 ms.*?width=\"([\d.]+)\"", icicle(FOUND))
    assert float(forward[1]) == pytest.approx(6 / 19 * WIDTH, abs=1)


def test_the_timeline_calls_machine_code_by_its_kernel():
    assert [box.text for box in timeline_boxes(FOUND) if box.row == 2] == ["matmul", "sum"]


def test_the_page_is_whole_safe_and_says_how_it_was_measured():
    text = profile_page(FOUND, title="<b>4 layers</b>")
    assert "<b>" not in text.replace("<b>19.0 ms</b>", "").split("<h1>")[0]
    assert "&lt;b&gt;4 layers" in text and "kernel &lt;other&gt; in linear" in text
    assert "<script" not in text and "http" not in re.sub(r'http-equiv="[^"]*"', "", text)
    for words in ("a step", "Python", "page faults", "longer", "0.25 µs"):
        assert words in text


def test_a_step_without_spans_is_drawn_empty():
    empty = Profile([1.0], [1.0], [0.5], [Row("forward", "between", 0, 1.0, {}, 0)], 0, 0, [])
    assert "<svg" in profile_page(empty, title="nothing")
