"""Best of n: the winner is the best, the KL formula holds where it can be counted out, winners become demonstrations."""

import itertools
import math

import numpy as np
import pytest
import tiny_rl
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data.conversations.packing import PaddedConversations
from tinyllm.rlhf.best_of_n import best_of_n, best_of_n_kl, expected_best, winners_as_demonstrations
from tinyllm.rlhf.rollout import RolloutConfig


def sampled(score=tiny_rl.count_fives, n=6, seed=0, **changes):
    config = RolloutConfig(group_size=n, max_new_tokens=6, minibatch_size=2, **changes)
    rng = np.random.default_rng(seed)
    return best_of_n(tiny_rl.make_policy(), tiny_rl.PROMPTS, score, config=config, stop_id=tiny_rl.STOP, rng=rng)


def test_the_winner_is_the_best_of_the_answers_to_its_own_prompt():
    best = sampled()
    assert best.scores.shape == (5, 6) and len(best.samples) == 30
    for index, winner in enumerate(best.winners):
        own = [sample for sample in best.samples if sample.prompt_index == index]
        assert len(own) == 6 and winner in own and winner.prompt == tiny_rl.PROMPTS[index]
        assert tiny_rl.count_fives([winner])[0] == max(tiny_rl.count_fives(own)) == best.best_scores[index]


def test_more_answers_are_better_and_one_is_no_choice():
    assert sampled(n=16).best_scores.mean() > sampled(n=1).best_scores.mean()
    one = sampled(n=1)
    assert one.winners == one.samples


def test_of_equals_the_first_wins():
    best = sampled(score=lambda samples: [0.0] * len(samples))
    assert best.winners == best.samples[::6]


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="reward gave nan for answer 0"):
        sampled(score=lambda samples: [math.nan] * len(samples))


def test_a_prompt_without_room_for_an_answer_is_refused():
    with pytest.raises(ValueError, match="prompt 0 has 12 tokens, which leaves no room"):
        config = RolloutConfig(max_new_tokens=6)
        rng = np.random.default_rng(0)
        best_of_n(tiny_rl.make_policy(), [[2] * 12], tiny_rl.count_fives, config=config, stop_id=1, rng=rng)


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_the_kl_is_that_of_the_winners_distribution_counted_out(n):
    m = 20_000  # equally likely answers, all of different reward: the i-th wins with probability (i/m)ⁿ - ((i-1)/m)ⁿ
    share = np.arange(m + 1) / m
    wins = np.diff(share**n)
    kl = np.sum(wins * np.log(np.maximum(wins * m, 1e-300)))
    assert best_of_n_kl(n) == pytest.approx(kl, abs=2e-3)


def test_the_kl_of_one_is_zero_and_of_none_an_error():
    assert best_of_n_kl(1) == 0
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        best_of_n_kl(0)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=7), st.data())
def test_the_expected_best_is_the_mean_over_all_choices(scores, data):
    n = data.draw(st.integers(1, len(scores)))
    by_hand = np.mean([max(chosen) for chosen in itertools.combinations(scores, n)])
    assert expected_best(np.array(scores), n) == pytest.approx(by_hand, abs=1e-9)


def test_the_best_of_more_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="n must be from 1 to the 2 scores"):
        expected_best(np.zeros(2), 3)


def test_winners_become_demonstrations_whose_answer_counts():
    best = sampled()
    encoded = winners_as_demonstrations(best, only_finished=False)
    assert len(encoded) == 5
    for ids, mask in encoded:
        winner = next(w for w in best.winners if [*w.prompt, *w.response] == ids)
        assert mask == [False] * len(winner.prompt) + [True] * len(winner.response)
    batch = PaddedConversations(encoded, batch_size=5, block_size=16, rng=np.random.default_rng(0)).next_batch()
    assert batch.n_counted == sum(len(w.response) for w in best.winners)


def test_only_the_best_share_of_finished_winners_is_kept():
    best = sampled(score=lambda samples: [float(sample.finished) for sample in samples], n=16)
    kept = winners_as_demonstrations(best, share=0.4)
    assert len(kept) == 2 and all(ids[-1] == tiny_rl.STOP for ids, _ in kept)
    with pytest.raises(ValueError, match="share must be above 0"):
        winners_as_demonstrations(best, share=0)


def test_answers_that_never_stop_are_no_demonstrations():
    best = sampled(score=lambda samples: [-float(sample.finished) for sample in samples], n=16)
    assert not any(winner.finished for winner in best.winners)
    with pytest.raises(ValueError, match="no winner ends with the stop token"):
        winners_as_demonstrations(best)
