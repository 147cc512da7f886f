import re

import numpy as np
import pytest

from tinyllm.report import plots
from tinyllm.report.run_record import RunRecord

NO_SETTINGS = dict(environment={}, samples=[], mixture=[], n_parameters=None, tokens_per_byte=None, n_unreadable=0)


def _run(tmp_path, records, **settings):
    return RunRecord(path=tmp_path, settings=settings, records=records, **NO_SETTINGS)


RECORDS = [
    {"step": i, "loss": 5 - i / 20, "learning_rate": 0.1, "grad_norm": 1 + i % 3, "tokens_per_second": 900 + i}
    | ({"val_loss": 5.5 - i / 20} if i % 10 == 0 else {})
    for i in range(1, 41)
]
FIGURES = [plots.draw_loss, plots.draw_learning_rate, plots.draw_gradient_norm, plots.draw_speed]


def test_smoothing_keeps_a_straight_line_straight_and_does_not_lag():
    line = [3.0 - 0.1 * i for i in range(50)]
    np.testing.assert_allclose(plots.smooth(line, 5)[:45], line[:45], rtol=1e-12)  # the end averages backwards
    assert plots.smooth([7.0] * 9, 3) == [7.0] * 9


def test_smoothing_is_the_mean_of_the_neighbours():
    values = np.random.default_rng(0).normal(size=30)
    smoothed = plots.smooth(list(values), 4)
    assert smoothed[10] == pytest.approx(values[6:15].mean(), rel=1e-12)
    assert smoothed[0] == values[0] and smoothed[2] == pytest.approx(values[:5].mean())
    assert smoothed[-1] == pytest.approx(values[-5:].mean(), rel=1e-12)


def test_a_long_curve_is_thinned_but_keeps_its_ends():
    steps, values = plots.thin(list(range(10_000)), list(range(10_000)))
    assert len(steps) < 1600 and steps[0] == 0 and steps[-1] == 9999 and steps == values
    assert plots.thin([], []) == ([], [])


def test_a_file_becomes_an_element_that_takes_colours_and_font_from_the_page():
    svg = '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg width="9pt" viewBox="0 0 9 9" version="1.1">\n <defs>\n  <style' \
        ' type="text/css">*{x}</style>\n </defs>\n<!-- a -->\n<use xlink:href="#m1" style="fill: #040404; stroke: #040404"/>' \
        '\n<text style="font-size: 9px; font-family: \'DejaVu Sans\', sans-serif; fill: #020202">a</text></svg>'  # fmt: skip
    assert plots.for_page(svg, label="loss").split("\n") == [
        '<svg role="img" aria-label="loss" viewBox="0 0 9 9">',
        '<use href="#m1" style="fill: var(--train); stroke: var(--train)"/>',
        '<text style="font-size: 9px; fill: var(--muted)">a</text></svg>',
    ]


@pytest.mark.parametrize("drawing", FIGURES)
def test_without_matplotlib_there_is_no_figure(tmp_path, monkeypatch, drawing):
    monkeypatch.setattr(plots, "has_matplotlib", lambda: False)
    assert plots.draw("a", drawing, run=_run(tmp_path, RECORDS), size=(3, 2)) is None


@pytest.mark.parametrize("drawing", FIGURES)
@pytest.mark.parametrize("n_records", [1, 2, 40])
def test_figures_use_the_colours_of_the_page_alone(tmp_path, drawing, n_records):
    pytest.importorskip("matplotlib")
    run = _run(tmp_path, RECORDS[:n_records], vocab_size=300, grad_clip=1.0)
    svg = plots.draw("a", drawing, run=run, size=(4, 3))
    assert svg.startswith("<svg ") and svg.endswith("</svg>") and "var(--train)" in svg
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#ffffff"}
    assert "<style" not in svg and "http" not in svg


def test_figures_on_one_page_share_no_id_that_is_referred_to(tmp_path):
    pytest.importorskip("matplotlib")
    run = _run(tmp_path, RECORDS)
    svgs = [plots.draw(drawing.__name__, drawing, run=run, size=(4, 3)) for drawing in FIGURES]
    referred = [set(re.findall(r'(?:href="|url\()#(\w+)', svg)) for svg in svgs]
    for number, names in enumerate(referred):
        others = [set(re.findall(r'id="(\w+)"', svg)) for other, svg in enumerate(svgs) if other != number]
        assert names and not names & set().union(*others)


def test_the_same_run_gives_the_same_figure(tmp_path):
    pytest.importorskip("matplotlib")
    one, two = (plots.draw("a", plots.draw_loss, run=_run(tmp_path, RECORDS), size=(4, 3)) for _ in range(2))
    assert one == two
