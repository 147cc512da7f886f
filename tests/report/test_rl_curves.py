import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tinyllm.report import rl_curves as curves
from tinyllm.report.curves import curve_chart
from tinyllm.report.rl_curves import fit_overoptimisation
from tinyllm.report.run_record import RunRecord

NO_SETTINGS = dict(environment={}, samples=[], mixture=[], n_parameters=None, tokens_per_byte=None, n_unreadable=0)


def run_of(tmp_path, records, **settings):
    return RunRecord(path=tmp_path, settings=settings, records=records, **NO_SETTINGS)


def ppo_records(n_rollouts=30, epochs=4):
    """A run that over-optimises: the gold reward is best halfway."""
    for step in range(n_rollouts * epochs):
        late = step % epochs
        record = {"step": step + 1, "clip_fraction": 0.1 * late, "ratio": 1 + 0.01 * late, "approx_kl": 0.001, "value_loss": 0.5}
        record |= {"entropy": 2 - step / 100, "loss": 0.0}
        if step % epochs == 0:
            way = step / (n_rollouts * epochs)
            record |= {"rollout": step // epochs + 1, "score": 4 * way, "score_std": 0.3, "gold": way * (1 - way)}
            record |= {"kl": 20 * way, "length": 10 + 20 * way, "finished": 1 - way / 9, "kl_coefficient": 0.05}
            record |= {"explained_variance": way}
        yield record


ALL = (*curves.DISTANCE, *curves.WRITING, *curves.UPDATES)


def test_distance_is_the_root_of_kl_and_an_estimate_below_zero_is_zero(tmp_path):
    measured = ((1, -0.1, 1.0), (2, 9.0, 2.0), (3, 4.0, 3.0), (4, 1.0, None))
    records = [{"step": step, "kl": kl, "gold": gold} for step, kl, gold in measured]
    assert curves.against_distance(run_of(tmp_path, records), "gold") == ([0, 2, 3], [1, 3, 2])


def test_the_law_is_found_again_in_data_made_from_it():
    distance = np.linspace(0, 5, 60)
    law = curves.OveroptimisationLaw(0.3, 1.2, 0.7)
    found = fit_overoptimisation(distance, law.at(np.maximum(distance, 1e-9)))
    np.testing.assert_allclose([found.start, found.alpha, found.beta], [0.3, 1.2, 0.7], atol=0.03)
    grid = np.linspace(0.01, 5, 5000)
    assert found.peak == pytest.approx(grid[law.at(grid).argmax()], rel=0.05)


def test_a_thousand_rollouts_at_one_place_do_not_outvote_the_way_there():
    law = curves.OveroptimisationLaw(0.0, 1.0, 0.8)
    distance = np.concatenate([np.linspace(0.1, 4, 40), np.full(1000, 4.0)])
    gold = law.at(distance)
    gold[40:] += 0.5  # they are all off
    assert fit_overoptimisation(distance, gold).peak == pytest.approx(law.peak, rel=0.15)


def test_too_little_way_is_no_law():
    assert fit_overoptimisation([], []) is None
    assert fit_overoptimisation([1.0, 2.0], [1.0, 2.0]) is None
    assert fit_overoptimisation(np.linspace(2, 2.3, 50), np.ones(50)) is None
    rising = fit_overoptimisation(np.linspace(0, 3, 50), np.linspace(0, 3, 50) ** 2)
    assert rising.peak is None


@pytest.mark.parametrize("n_records", [1, 2, 120])
def test_charts_use_the_colours_of_the_page_alone(tmp_path, n_records):
    run = run_of(tmp_path, list(ppo_records())[:n_records], max_new_tokens=48, kl_target=6.0)
    charts = [chart for curve in ALL if (chart := curve_chart(run, curve))]
    assert len(charts) == 10, "all but the prompts without a lesson, which were not measured"
    for chart in [*charts, curves.reward_charts(run), curves.law_charts(run)]:
        assert chart.count("<svg ") in (1, 2) and not re.search(r"#[0-9a-f]{3,6}\b|rgb|nan|http", chart)
        assert set(re.findall(r'class="([sf]\d)', chart)) & {"s0", "f0"}
    assert "target 6" in charts[0] and any("limit 48" in chart for chart in charts)


def two(markup):
    """The two charts of a pair."""
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", markup, re.DOTALL)]


def heights(element):
    return [float(point.split(",")[1]) for point in element.get("points").split()]


def test_score_and_gold_have_a_chart_and_a_scale_each(tmp_path):
    run = run_of(tmp_path, [{"step": i, "score": 1000.0 * i, "gold": i / 10} for i in range(9)])
    score, gold = two(curves.reward_charts(run))
    assert (score.get("aria-label"), gold.get("aria-label")) == ("reward model's score", "gold reward")
    for chart, colour in ((score, "s0"), (gold, "s1")):
        drawn = list(chart.iter("polyline"))
        assert [line.get("class") for line in drawn] == [colour, colour], "each value, and smoothed"
        assert max(heights(drawn[0])) - min(heights(drawn[0])) > 150, "as high as its chart"
    assert "8,000" in "".join(score.itertext()) and "8,000" not in "".join(gold.itertext())


def test_the_band_is_a_standard_deviation_to_each_side_of_the_score(tmp_path):
    run = run_of(tmp_path, [{"step": i, "score": i / 4, "score_std": 2.0} for i in range(9)])
    band, *curve = two(curves.reward_charts(run))[0].iter("polyline")
    assert float(band.get("fill-opacity")) < 0.3 and band.get("class") == "f0" and len(curve) == 2
    upper, lower = heights(band)[:9], heights(band)[9:]
    middle = heights(curve[1])
    assert len(upper) == len(lower) == 9
    assert [a + b for a, b in zip(upper, lower[::-1], strict=True)] == pytest.approx([2 * m for m in middle], abs=0.3)
    assert all(above - at > 50 for above, at in zip(middle, upper, strict=True))
    bare = run_of(tmp_path, [{"step": i, "score": 5.0} for i in range(9)])
    assert "fill-opacity" not in curves.reward_charts(bare)


def test_score_and_gold_may_come_alone(tmp_path):
    for name, colour, other in (("score", "0", "1"), ("gold", "1", "0")):
        run = run_of(tmp_path, [{"step": i, name: i / 2, "kl": i} for i in range(9)])
        for chart in (curves.reward_charts(run), curves.law_charts(run)):
            assert chart.startswith("<svg") and chart.count("<svg") == 1
            assert f'class="s{colour}"' in chart and not re.search(f'class="[sf]{other}"', chart)


def test_each_rollout_is_a_dot_and_the_law_has_its_top_marked(tmp_path):
    law = curves.OveroptimisationLaw(0.3, 1.2, 0.7)
    away = [0.1 * i for i in range(1, 51)]
    records = [{"step": i, "kl": d * d, "score": d, "gold": float(law.at(np.array(d)))} for i, d in enumerate(away)]
    score, gold = two(curves.law_charts(run_of(tmp_path, records)))
    for chart, colour in ((score, "f0"), (gold, "f1")):
        assert [dot.get("class") for dot in chart.iter("circle")].count(colour) == 50
    fit = next(line for line in gold.iter("polyline") if line.get("stroke-dasharray"))
    (mark,) = [dot for dot in gold.iter("circle") if dot.get("class") == "f2"]
    assert fit.get("class") == "s2" and float(mark.get("cy")) == pytest.approx(min(heights(fit)), abs=0.2), "at the top"
    words = [element.text for element in gold.iter("text")]
    assert "fit" in words and f"top of the fit: √KL = {law.peak:.2g}" in words
    near = run_of(tmp_path, records[:6])
    assert "fit" not in curves.law_charts(near), "too short a way to tell"
