"""The ladder in benchmarks/: complete, and it times nothing that is wrong. How fast a rung is is no test's business.

So here the loops are compiled without threads, which takes a tenth of the time (one of them with, to see that it works), and
whoever is timed is called once.
"""

import dataclasses
import importlib
import os
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="loops that are compiled are the subject")

ROW_KERNELS = ["Python loop", "NumPy", "Numba serial", "Numba parallel", "Numba fused (tinyllm)"]
RUNGS = {
    "matmul": ["Python loop", "NumPy, without BLAS", "Numba serial", "Numba parallel",
               "Numba register tiles (tinyllm)", "NumPy's BLAS"],
    "linear_gelu": ["Python loop", "NumPy's BLAS, then NumPy", "Numba one by one (tinyllm)", "Numba fused (tinyllm)"],
    "softmax": ROW_KERNELS,
    "layer_norm": ROW_KERNELS,
    "attention": ["Python loop", "NumPy, products by BLAS", "Numba serial", "Numba parallel", "Numba fused tiles (tinyllm)"],
    "cross_entropy": ROW_KERNELS,
    "adamw": ROW_KERNELS,
}  # fmt: skip


FAULTS = {
    "a thousandth too large": lambda y: y * np.float32(1.001),
    "a row too few": lambda y: y[:-1],
    "a single nan": lambda y: np.where(y == y.flat[3], np.nan, y),
}


def ladder_of(name):
    from benchmarks.ladder.__main__ import ladders

    return ladders([name], quick=True)[0]


@pytest.fixture(scope="module", autouse=True)
def _loops_without_threads():
    """The ladder's modules anew, with `parallel` compiling as `jit` does; afterwards those that were there before."""
    before = {name: module for name, module in sys.modules.items() if name.startswith("benchmarks.ladder")}
    for name in before:
        del sys.modules[name]
    loops = importlib.import_module("benchmarks.ladder.loops")
    shared = loops.parallel
    loops.parallel = loops.jit
    yield shared
    for name in [name for name in sys.modules if name.startswith("benchmarks.ladder")]:
        del sys.modules[name]
    sys.modules.update(before)


def once_each(calls, *, rounds):
    """Instead of the turns: every call is made, and is said to have taken a millisecond."""
    for call in calls.values():
        call()
    return {name: [1e-3] * rounds for name in calls}


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    pytest.importorskip("matplotlib")
    from benchmarks.ladder import machine, rungs
    from benchmarks.ladder.__main__ import main

    picture = tmp_path_factory.mktemp("ladder") / "ladder.svg"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "take_turns", once_each)
        patch.setattr(rungs, "take_turns", once_each)
        return main(["--quick", "--picture", str(picture)]), picture


def test_a_loop_shared_among_threads_computes_the_same(_loops_without_threads):
    from benchmarks.ladder import softmax

    x = np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32)
    shared = _loops_without_threads(softmax.numba_parallel.py_func)
    np.testing.assert_allclose(shared(x), softmax.numba_serial(x), rtol=1e-6)
    assert shared.targetoptions["parallel"].enabled


def test_every_kernel_has_its_rungs_each_with_figures(quick_run):
    climbs, _ = quick_run
    assert len(climbs) == len(RUNGS)
    for climb, (name, expected) in zip(climbs, RUNGS.items(), strict=True):
        found = [result.rung for result in climb.results]
        assert [rung for rung in found if rung in expected] == expected, name
        assert climb.unit in ("GFLOP/s", "GB/s") and climb.limit > 0
        for result in climb.results:
            assert result.seconds > 0 and result.rate > 0
            assert result.share == pytest.approx(result.rate / climb.limit)


def test_the_table_has_a_line_for_every_rung_and_the_limit(quick_run):
    from benchmarks.ladder.table import markdown, plain, rows_of

    for climb in quick_run[0]:
        rows = rows_of(climb)
        assert [row[0] for row in rows[1:]] == [*[result.rung for result in climb.results], "the machine's limit"]
        assert len(plain(rows).splitlines()) == len(markdown(rows).splitlines()) == len(rows) + 1


def test_the_summary_has_a_line_for_every_ladder(quick_run):
    from benchmarks.ladder.table import summary

    climbs, _ = quick_run
    heading, *rows = summary(climbs)
    assert [row[0] for row in rows] == [climb.ladder for climb in climbs] and {len(row) for row in rows} == {len(heading)}
    assert all(row[heading.index(name)] for row in rows for name in ("Python loop", "tinyllm", "limit"))


def test_the_picture_names_every_rung(quick_run):
    _, picture = quick_run
    text = picture.read_text("utf-8")
    for climb in quick_run[0]:
        for result in climb.results:
            assert text.count(f">{result.rung}</text>") >= 1, result.rung
    assert text.count(">Python loop</text>") == len(RUNGS) + 1, "one a panel, and one in the legend"


@pytest.mark.parametrize("name", RUNGS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_rung_is_named_and_nothing_is_timed(name, fault, monkeypatch):
    from benchmarks.ladder import rungs

    def wrong(*inputs):
        results = good.run(*inputs)
        first, *others = results if isinstance(results, tuple) else (results,)
        return (FAULTS[fault](np.asarray(first)), *others)

    ladder = ladder_of(name)
    good = ladder.rungs[-1] if name == "matmul" else ladder.rungs[1]
    bad = dataclasses.replace(good, name="the wrong one", run=wrong)
    monkeypatch.setattr(rungs, "take_turns", lambda *_, **__: pytest.fail("timed"))
    with pytest.raises(rungs.WrongRung, match="the rung 'the wrong one' is wrong"):
        rungs.climb(dataclasses.replace(ladder, rungs=[good, bad]), machine=None, rounds=1)


def test_a_wrong_product_is_not_raced_against_blas(monkeypatch):
    from benchmarks.ladder import products, rungs

    monkeypatch.setattr(products.kernels, "matmul", lambda a, b, out=None: 1.001 * (a @ b))
    a = b = np.ones((8, 8), np.float32)
    with pytest.raises(rungs.WrongRung, match="matmul"):
        products.race(a, b, rounds=1)


def test_a_race_counts_the_rounds_that_both_ran(monkeypatch):
    """On a busy machine one side has used up its time earlier."""
    from benchmarks.ladder import products

    monkeypatch.setattr(products, "take_turns", lambda calls, rounds: {"ours": [1.0, 2.0, 3.0], "BLAS": [4.0, 5.0, 6.0, 7.0]})
    a = b = np.ones((8, 8), np.float32)
    assert products.race(a, b, rounds=4) == ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    (rows,) = products.compare(quick=True, rounds=4)
    assert {row[4] for row in rows[1:]} == {"2.50"} and {row[5] for row in rows[1:]} == {"2.00 to 4.00"}


def test_products_are_compared_in_all_four_ways_of_lying(capsys, monkeypatch):
    from benchmarks.ladder import machine, products
    from benchmarks.ladder.__main__ import main

    monkeypatch.setattr(machine, "take_turns", once_each)
    monkeypatch.setattr(products, "take_turns", once_each)
    main(["--products", "--quick", "--rounds", "2", "--markdown"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 24 x 32 x 40")]
    assert [line.split("|")[2].strip() for line in lines] == ["A B", "A Bᵀ", "Aᵀ B", "Aᵀ Bᵀ", lines[-1].split("|")[2].strip()]
    assert len(lines[-1].split("|")) == 7, "the ratios of all four in one line"


def test_candidates_take_turns_forwards_and_backwards():
    from benchmarks.ladder.timing import take_turns

    calls: list[str] = []
    seconds = take_turns({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=4)
    order = [name for name, before in zip(calls, [None, *calls], strict=False) if name != before]
    assert "".join(order) == "abcabcbabcba"  # once each to learn how long it takes, then to and fro
    assert {name: len(times) for name, times in seconds.items()} == {"a": 4, "b": 4, "c": 4}


def test_a_time_is_written_with_the_unit_that_suits_it():
    from benchmarks.ladder.table import time_of

    assert [time_of(t) for t in (2.5e-6, 0.9999e-3, 0.0123, 84.5)] == ["2.50 us", "1.00 ms", "12.3 ms", "84.5 s"]
