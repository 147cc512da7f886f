import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.evaluation.before_after import BeforeAfter, read_comparisons, write_comparisons

PAIR = BeforeAfter("Summarise: a\nb", "old", "new ☂", score_before=-1.5, gold_after=2.0)
numbers = st.none() | st.floats(-1e9, 1e9)
texts = st.text(st.characters(exclude_categories=["Cs"]))


def test_what_is_written_is_read(tmp_path):
    path = write_comparisons(tmp_path, [PAIR, PAIR])
    assert path == tmp_path / "comparisons.jsonl" and len(path.read_bytes().splitlines()) == 2
    assert read_comparisons(tmp_path) == ([PAIR, PAIR], 0)


@given(st.lists(st.builds(BeforeAfter, texts, texts, texts, numbers, numbers, numbers, numbers), max_size=3))
def test_any_text_and_number_survives(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("run")
    write_comparisons(folder, pairs)
    assert read_comparisons(folder) == (pairs, 0)


def test_half_of_a_surrogate_pair_does_not_stop_a_run(tmp_path):
    write_comparisons(tmp_path, [BeforeAfter("a\ud800", "", "")])
    assert read_comparisons(tmp_path)[0][0].prompt == "a?"


def test_numbers_may_come_from_numpy(tmp_path):
    write_comparisons(tmp_path, [BeforeAfter("p", "a", "b", np.float32(0.5), np.float64(2), np.int64(1))])
    assert read_comparisons(tmp_path)[0] == [BeforeAfter("p", "a", "b", 0.5, 2.0, 1.0)]


def test_a_number_that_is_none_is_refused_and_the_file_stays_as_it_was(tmp_path):
    write_comparisons(tmp_path, [PAIR])
    with pytest.raises(ValueError):
        write_comparisons(tmp_path, [PAIR, BeforeAfter("p", "a", "b", float("nan"))])
    assert read_comparisons(tmp_path) == ([PAIR], 0)


def test_foreign_lines_are_passed_over_and_counted(tmp_path):
    path = write_comparisons(tmp_path, [PAIR])
    lines = ['{"prompt": "p", "before": "a"}', '{"prompt": 1, "before": "a", "after": "b"}', "[]", "NaN", '{"prompt": "p", "bef']
    path.write_bytes(path.read_bytes() + "\n".join(lines).encode())
    assert read_comparisons(tmp_path) == ([PAIR], 5)


def test_an_odd_score_counts_as_unknown(tmp_path):
    line = '{"prompt": "p", "before": "a", "after": "b", "score_before": "high", "score_after": true, "gold_after": 1e999}\n'
    (tmp_path / "comparisons.jsonl").write_text(line.replace("1e999", "null"))
    assert read_comparisons(tmp_path) == ([BeforeAfter("p", "a", "b")], 0)


def test_no_file_is_no_comparison(tmp_path):
    assert read_comparisons(tmp_path) == ([], 0)


def test_a_gain_needs_both_numbers():
    assert BeforeAfter("p", "a", "b", 1.0, 3.5).gain("score") == 2.5
    assert PAIR.gain("score") is None and PAIR.gain("gold") is None
