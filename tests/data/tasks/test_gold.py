"""The gold reward: each part alone, and that no text, however odd, breaks or fools it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import make_story, make_summary
from tinyllm.data.tasks.gold import count_flagged, count_invented, facts_covered, gold_reward, politeness, words_over_budget
from tinyllm.data.tasks.news import Story

STORY = Story(
    paragraph="A flood reached Port Allen on Monday. It damaged twelve boats. Mayor Anna Reed promised help.",
    facts=("flood", "Port Allen", "twelve boats", "Reed"),
    request="Summarise: ...",
    event="flood",
    place="Port Allen",
    count="twelve boats",
    person="Anna Reed",
)
PERFECT = "Thank you for asking. Port Allen had a flood, twelve boats damaged, Anna Reed said."


def test_a_perfect_summary_gets_the_best_there_is():
    assert gold_reward(STORY, PERFECT) == 3.5


@pytest.mark.parametrize(
    "reply, share",
    [
        (PERFECT, 1),
        ("", 0),
        ("flood", 0.25),
        ("Flood. flood, FLOOD!", 0.25),  # said three times, covered once
        ("floods", 0),  # another word
        ("Allen, in Port", 0),  # the words, not the place
        ("twelve boats", 0.25),
        ("twelve cars, boats", 0),
        ("1twelve boats", 0),
    ],
)
def test_facts_are_covered_as_whole_words_and_count_once(reply, share):
    assert facts_covered(STORY, reply) == share


@pytest.mark.parametrize(
    "reply, value", [("Please", 1), ("thanks. Thank you, please", 1), ("Whatever", -1), ("Thanks. Whatever.", 0), ("A flood", 0)]
)
def test_politeness_is_one_word_and_more_adds_nothing(reply, value):
    assert politeness(reply) == value


def test_words_over_the_budget_cost_each_a_tenth_up_to_a_bound():
    assert words_over_budget("a " * 16) == 0 and words_over_budget("a " * 19) == 3
    assert gold_reward(STORY, "a " * 19) == pytest.approx(-0.3)
    assert gold_reward(STORY, "a " * 10_000) == -2.0


def test_flagged_words_count_each_time():
    assert count_flagged("a damn, DAMN stupid flood") == 3
    assert gold_reward(STORY, "a damn flood") == pytest.approx(0.75 - 0.75)


@pytest.mark.parametrize(
    "reply, n",
    [
        (PERFECT, 0),
        ("A flood on Monday.", 0),
        ("A fire in Port Allen.", 1),
        ("Fire, fire!", 1),
        ("13 boats", 1),
        ("thirteen boats", 0),  # a number that no story has goes unnoticed,
        ("twelve boats and 13 cars", 2),
        ("Forty cars", 2),
        ("Port Dover had a flood", 1),
        ("A flood in Zanzibar", 1),  # a name no list holds
        ("It was on Tuesday.", 1),
        ("Gladly. Here it is.", 0),  # a capital that opens a sentence is no name
        ("Anna Hill", 1),
    ],
)
def test_what_is_not_in_the_story_is_made_up(reply, n):
    assert count_invented(STORY, reply) == n


def test_listing_everything_does_not_pay():
    from tinyllm.data.tasks.news import EVENTS, LAST_NAMES, NUMBERS, PLACE_NAMES, PLACES, THINGS

    places = " ".join(f"{a} {b}" for a in PLACES for b in PLACE_NAMES)
    counts = " ".join(f"{n} {thing}" for n in NUMBERS for thing in THINGS)
    everything = " ".join([*EVENTS, places, counts, *LAST_NAMES])
    assert facts_covered(STORY, everything) == 1
    assert gold_reward(STORY, everything) == pytest.approx(3.0 - 2 * 2.0)  # long, and made up


@given(st.one_of(st.text(max_size=400), st.text("Aab 1.:\n\u0661", max_size=400)))
def test_any_text_gets_a_bounded_finite_reward(reply):
    value = gold_reward(STORY, reply)
    assert math.isfinite(value) and -6.5 <= value <= 3.5


def test_the_empty_reply_is_worth_nothing_and_a_megabyte_is_rated_too():
    assert gold_reward(STORY, "") == 0
    assert gold_reward(STORY, "flood " * 200_000) == pytest.approx(0.75 - 2.0)


def test_demonstrations_spread_by_about_one_and_leave_more_than_one_deviation_to_gain():
    rng = np.random.default_rng(0)
    rewards = []
    for _ in range(2000):
        story = make_story(rng)
        rewards.append(gold_reward(story, make_summary(story, rng)))
    assert 0.8 < np.std(rewards) < 1.4
    assert np.mean(rewards) + 1.5 * np.std(rewards) < 3.5
