import numpy as np
import pytest

from tinyllm.data.text.mixture import Mixture, MixtureSource, format_bytes, mix

TOKENS = {"reference": np.zeros(100_000, np.uint16), "source": np.zeros(2_000_000, np.uint16)}
BYTES = {"reference": 400_000, "source": 7_278_621}


def test_the_table_is_llamas_table_1():
    mixture = mix(TOKENS, BYTES, {"reference": 1, "source": 4})
    assert mixture.table(1_000_000).splitlines() == [
        "data set   sampling prop.   epochs        tokens  disk size",
        "reference          20.0%     2.00       100,000     400 kB",
        "source             80.0%     0.40     2,000,000    7.28 MB",
    ]


def test_epochs_follow_from_tokens_and_proportion():
    rows = mix(TOKENS, BYTES, {"reference": 3, "source": 1}).rows(400_000)
    assert [row["epochs"] for row in rows] == [3.0, 0.05]
    assert sum(row["epochs"] * row["tokens"] for row in rows) == 400_000


def test_without_weights_all_sources_have_equal_epochs():
    rows = mix(TOKENS, BYTES).rows(1_000_000)
    assert rows[0]["epochs"] == pytest.approx(rows[1]["epochs"], rel=1e-12)


def test_picks_follow_the_weights():
    picks = mix(TOKENS, BYTES, {"reference": 1, "source": 4}).pick(np.random.default_rng(1), 20_000)
    share = np.mean(picks == 0)
    assert abs(share - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 20_000)  # four standard errors


def test_the_unit_interval_is_divided_at_the_cumulative_weights():
    class Numbers:
        def random(self, n):
            return np.array([0.0, 0.2499, 0.25, 0.5, 0.75, 0.99])

    picks = mix(TOKENS, BYTES, {"reference": 1, "source": 3}).pick(Numbers(), 6)
    assert picks.tolist() == [0, 0, 1, 1, 1, 1]


def test_the_largest_uniform_number_still_picks_a_source():
    class Largest:
        def random(self, n):
            return np.full(n, 1 - 2**-53)

    mixture = mix({str(i): np.zeros(1, int) for i in range(10)}, dict.fromkeys(map(str, range(10)), 1), None)
    assert mixture.pick(Largest(), 3).tolist() == [9, 9, 9]


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_that_is_no_positive_number_is_refused(weight):
    with pytest.raises(ValueError, match="weight of source 'source' must be a positive number, got"):
        mix(TOKENS, BYTES, {"reference": 1, "source": weight})


def test_weights_must_name_the_sources():
    with pytest.raises(ValueError, match="exactly the sources reference, source; not in both: books, source"):
        mix(TOKENS, BYTES, {"reference": 1, "books": 1})
    with pytest.raises(ValueError, match="at least one source"):
        Mixture(())
    one = MixtureSource("a", np.zeros(1), 1, 1.0)
    with pytest.raises(ValueError, match="different names, got a, a"):
        Mixture((one, one))
    with pytest.raises(ValueError, match="source 'a' has no tokens"):
        Mixture((MixtureSource("a", np.zeros(0), 1, 1.0),))


def test_sizes_are_written_as_people_read_them():
    sizes = [0, 999, 1000, 999_400, 999_600, 7_278_621, 3e9, 4e12]
    texts = ["0 B", "999 B", "1 kB", "999 kB", "1 MB", "7.28 MB", "3 GB", "4 TB"]
    assert [format_bytes(n) for n in sizes] == texts
