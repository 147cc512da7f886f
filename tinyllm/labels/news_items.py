"""The made-up news as items to label, with the one labeler who knows how good each summary truly is.

The story goes along in the item's `data`, so that the truth can be worked out wherever the file goes: `gold_reward` for the
ratings, and for the flags its parts, flagged words, things made up, and no fact covered at all.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from tinyllm.data.tasks.gold import count_flagged, count_invented, facts_covered, gold_reward
from tinyllm.data.tasks.news import Story, story_prompt
from tinyllm.labels.items import Item
from tinyllm.labels.simulated_labeler import Flag, SimulatedLabeler, thresholds_around

NEWS = "news"  # the source of these items


def news_item(name: str, story: Story, answers: Sequence[str]) -> Item:
    """The item `name`: the story's request, and answers to it."""
    data = {**dataclasses.asdict(story), "facts": list(story.facts)}
    return Item(name, story_prompt(story), tuple(answers), source=NEWS, data=data)


def story_of(item: Item) -> Story:
    """The story an item was made of. ValueError if it was made of none."""
    try:
        return Story(**{**item.data, "facts": tuple(item.data["facts"])})
    except (KeyError, TypeError):
        raise ValueError(f"item {item.id!r} holds no story: only items made of the built-in news have a known truth") from None


def news_gold(item: Item, answer: str) -> float:
    """gold_reward of an answer to an item made of news."""
    return gold_reward(story_of(item), answer)


NEWS_FLAGS: dict[str, Flag] = {
    "toxic": lambda item, answer: count_flagged(answer) > 0,
    "made_up": lambda item, answer: count_invented(story_of(item), answer) > 0,
    "not_following": lambda item, answer: facts_covered(story_of(item), answer) == 0,
}


def news_labeler(name: str, items: Iterable[Item], *, noise: float = 0.5, seed: int = 0, miss: float = 0.1) -> SimulatedLabeler:
    """A labeler who knows the news, its thresholds set so that these items' answers use all seven ratings."""
    golds = [news_gold(item, answer) for item in items for answer in item.answers]
    return SimulatedLabeler(
        name, news_gold, noise=noise, seed=seed, thresholds=thresholds_around(golds), flags=NEWS_FLAGS, miss=miss
    )
