"""Items made of the built-in news."""

import numpy as np
import pytest

from tinyllm.data.tasks.gold import gold_reward
from tinyllm.data.tasks.news import make_story, make_summary
from tinyllm.labels import Item, read_items, write_items
from tinyllm.labels.news_items import news_gold, news_item, news_labeler, story_of


def make(n=40):
    rng = np.random.default_rng(0)
    stories = [make_story(rng) for _ in range(n)]
    return stories, [news_item(str(i), story, [make_summary(story, rng) for _ in range(5)]) for i, story in enumerate(stories)]


def test_the_story_goes_through_the_file_with_its_item(tmp_path):
    stories, items = make(5)
    write_items(tmp_path / "items.jsonl", items)
    found = read_items(tmp_path / "items.jsonl")
    assert found == items and [story_of(item) for item in found] == stories
    assert news_gold(found[0], found[0].answers[0]) == gold_reward(stories[0], found[0].answers[0])


def test_the_labeler_uses_the_whole_scale_and_prefers_what_is_better():
    _, items = make()
    labels = [news_labeler("sim", items, noise=0.3).label(item) for item in items]
    ratings = [rating for label in labels for rating in label.ratings]
    assert set(ratings) == set(range(1, 8))
    golds = [news_gold(item, answer) for item in items for answer in item.answers]
    assert np.corrcoef(ratings, golds)[0, 1] > 0.9


def test_an_item_without_a_story_is_refused():
    with pytest.raises(ValueError, match="'a' holds no story"):
        story_of(Item("a", "Hi", ("x", "y")))
