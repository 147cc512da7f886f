"""The world of small news: the splits share words, never a combination; demonstrations have every flaw in some measure."""

import numpy as np
import pytest

from tinyllm.data import make_story, make_summary, story_prompt
from tinyllm.data.tasks.news import DAYS, FLAGGED, REQUESTS


def stories(split, n=2000, seed=0):
    rng = np.random.default_rng(seed)
    return [make_story(rng, split) for _ in range(n)]


def test_every_fact_stands_in_the_paragraph_and_the_paragraph_in_the_request():
    for story in stories("train", 300) + stories("test", 300):
        assert all(fact in story.paragraph for fact in story.facts)
        assert story.request.endswith(story.paragraph)
        assert story_prompt(story) == [{"role": "user", "content": story.request}]
        assert 15 <= len(story.paragraph.split()) <= 40


@pytest.mark.parametrize("field", ["place", "person", "count", "paragraph"])
def test_no_place_person_damage_or_paragraph_of_the_test_split_is_in_the_training_split(field):
    train, test = ({getattr(story, field) for story in stories(split)} for split in ("train", "test"))
    assert len(test) > 10 and train.isdisjoint(test)


def test_every_word_of_the_test_split_is_known_from_training():
    train, test = ({word for s in stories(split) for word in s.paragraph.replace(".", "").split()} for split in ("train", "test"))
    assert test - train == set()


def test_a_template_of_the_test_split_is_never_trained_on():
    def shapes(split):
        found = set()
        for story in stories(split):
            text = story.paragraph
            values = (story.place, story.person, story.count, story.event, *DAYS)
            for value, name in zip(values, "PNCE" + "D" * 7, strict=True):
                text = text.replace(value, name)
            found.add(text)
        return found

    train, test = shapes("train"), shapes("test")
    assert len(test) > 50 and train.isdisjoint(test)


def test_the_same_generator_tells_the_same_story():
    assert stories("train", 5, seed=3) == stories("train", 5, seed=3) != stories("train", 5, seed=4)
    story = stories("train", 1)[0]
    assert make_summary(story, np.random.default_rng(1)) == make_summary(story, np.random.default_rng(1))


def test_demonstrations_are_of_mixed_quality():
    rng = np.random.default_rng(0)
    pairs = [(story, make_summary(story, rng)) for story in stories("train")]
    complete = np.mean([all(fact in summary for fact in story.facts) for story, summary in pairs])
    flagged = np.mean([any(word in summary for word in FLAGGED) for _, summary in pairs])
    lengths = np.array([len(summary.split()) for _, summary in pairs])
    assert 0.08 < complete < 0.2 and 0.2 < flagged < 0.3
    assert 0.15 < np.mean(lengths > 25) < 0.35 and lengths.min() >= 5 and lengths.max() <= 45


def test_another_split_is_refused_by_name():
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'valid'"):
        make_story(np.random.default_rng(0), "valid")
    assert set(REQUESTS) == {"train", "test"}
