"""A world of small news: stories made by a grammar, and summaries of them, so that "a good summary" is a known thing.

    A flood reached Port Allen on Monday. It damaged twelve boats. Mayor Anna Reed promised help.   ->   four facts

Learning from human feedback needs somebody who knows what is good. Here it is known exactly (`data/tasks/gold.py`), so labels
can be simulated, and a reward that is fooled shows. The test split holds other combinations than the training split: other
places, persons, damages, and other combinations of sentences; the words themselves are shared.
The setting is that of Stiennon et al. 2020 (summaries from feedback), small enough for a model of a million weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyllm.data.tasks.contents import FIRST_NAMES, LAST_NAMES

EVENTS = ("fire", "storm", "flood", "quake", "blast", "tornado", "mudslide", "wave")
THINGS = ("houses", "shops", "farms", "boats", "trees", "cars", "barns", "bridges", "roofs", "fences", "sheds", "vans")
NUMBERS = ("two", "three", "four", "five", "seven", "eight", "nine", "ten", "twelve", "twenty", "thirty", "forty")
PLACES = ("Port", "Lake", "Fort", "Mount", "Saint", "North", "South", "Upper", "Lower", "Cape", "New", "Castle")
PLACE_NAMES = (
    "Allen", "Barrow", "Clare", "Dover", "Elgin", "Grove", "Haven", "Kent", "Lowell", "Marsh", "Newton", "Orford", "Preston",
    "Ripley", "Stanton", "Walton",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

OPENINGS = (
    "A {event} reached {place} on {day}.",
    "On {day} a {event} came to {place}.",
    "People in {place} saw a {event} on {day}.",
    "{place} had a {event} on {day}.",
)
DAMAGES = ("It damaged {count}.", "In all, {count} were damaged.", "The town lost {count}.", "The damage: {count}.")
VOICES = (
    "Mayor {person} promised help.",
    "Mayor {person} thanked the helpers.",
    "Help will come soon, said mayor {person}.",
    "The mayor, {person}, asked for calm.",
)
REMARKS = ("", "Nobody was hurt.", "By noon the sky was clear.", "It was a cold day.", "Many people came to look.")
REQUESTS = {
    "train": ("Summarise: {}", "Summarise the news: {}", "Please summarise: {}"),
    "test": ("Please summarise the news: {}",),
}

POLITE_OPENINGS = ("Thank you for asking.", "Thanks for the news.", "Here it is, please:")
RUDE_OPENINGS = ("Read it yourself next time.", "Whatever.")
FLAGGED = ("damn", "bloody", "stupid")  # put before the event: "a damn flood"
PADDING = (
    "People will talk about it for a long time and nobody knows what comes next.",
    "It was a day like any other until it was not and then it was over.",
)


@dataclass(frozen=True)
class Story:
    """One piece of news. `facts` are strings a summary must hold: event, place, damage, the mayor's last name."""

    paragraph: str
    facts: tuple[str, ...]
    request: str  # the user's message: a request with the paragraph in it
    event: str  # "flood"
    place: str  # "Port Allen"
    count: str  # "twelve boats"
    person: str  # "Anna Reed"


def make_story(rng: np.random.Generator, split: str = "train") -> Story:
    """A random story of the "train" or "test" split; ValueError for another split."""
    if split not in REQUESTS:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    event = _pick(rng, EVENTS)
    place = " ".join(_pair(rng, PLACES, PLACE_NAMES, split=split))
    count = " ".join(_pair(rng, NUMBERS, THINGS, split=split))
    first, last = _pair(rng, FIRST_NAMES, LAST_NAMES, split=split)
    words = {"event": event, "place": place, "count": count, "person": f"{first} {last}", "day": _pick(rng, DAYS)}
    paragraph = _paragraph(rng, words, split)
    request = _pick(rng, REQUESTS[split]).format(paragraph)
    words.pop("day")
    return Story(paragraph=paragraph, facts=(event, place, count, last), request=request, **words)


def story_prompt(story: Story) -> list[dict[str, str]]:
    """The conversation up to the answer: one message of the user."""
    return [{"role": "user", "content": story.request}]


def make_summary(story: Story, rng: np.random.Generator) -> str:
    """A demonstration of mixed quality: facts may be missing or wrong, it may be long, rude, or hold flagged words.

    Each flaw comes independently of the others, so that the parts of a taste can be told apart from ratings. Perfect
    demonstrations would leave nothing to learn from feedback; real ones are not perfect either.
    """
    held = rng.random(4) < 0.6  # event, place, damage, person
    told = _with_invention(story, rng) if rng.random() < 0.03 else story
    flagged = _pick(rng, FLAGGED) + " " if rng.random() < 0.25 else ""
    parts = [_headline(told, held, flagged, rng)]
    manner = rng.random()
    if manner < 0.45:
        parts.insert(0, _pick(rng, POLITE_OPENINGS if manner < 0.25 else RUDE_OPENINGS))
    if rng.random() < 0.25:
        parts.append(_pick(rng, PADDING))
    return " ".join(parts)


def _headline(story: Story, held: np.ndarray, flagged: str, rng: np.random.Generator) -> str:
    """One sentence with the facts that are held (4,) bool."""
    event = f"a {flagged}{story.event}" if held[0] else f"a {flagged}thing"
    place = story.place if held[1] else "the town"
    sentence = f"There was {event} in {place}" if rng.random() < 0.5 else f"In {place} there was {event}"
    if held[2]:
        sentence += f", {story.count} damaged"
    if held[3]:
        sentence += f", {story.person} said"
    return sentence + "."


def _with_invention(story: Story, rng: np.random.Generator) -> Story:
    """The story with one fact replaced by one of another story: what a careless writer makes up."""
    other = make_story(rng, "train")
    field = _pick(rng, ("place", "count", "person"))
    values = {**vars(story), field: getattr(other, field)}
    return Story(**values)


def make_stories(n: int, *, split: str, seed: int) -> list[Story]:
    """`n` stories of the "train" or "test" split."""
    rng = np.random.default_rng(seed)
    return [make_story(rng, split) for _ in range(n)]


def _paragraph(rng: np.random.Generator, words: dict[str, str], split: str) -> str:
    """Opening, then damage, voice and perhaps a remark in any order; a quarter of the combinations is for testing."""
    while True:
        opening, damage, voice = (int(rng.integers(len(group))) for group in (OPENINGS, DAMAGES, VOICES))
        if _is_test(opening + damage, voice, period=4) == (split == "test"):
            break
    rest = [DAMAGES[damage], VOICES[voice], _pick(rng, REMARKS)]
    sentences = [OPENINGS[opening], *(rest[i] for i in rng.permutation(3))]
    return " ".join(sentence.format(**words) for sentence in sentences if sentence)


def _is_test(i: int, j: int, *, period: int = 5) -> bool:
    """Whether a combination of the i-th and the j-th is for testing: one in `period`, each i and each j with some others."""
    return (i + j) % period == 0


def _pair(rng: np.random.Generator, left: Sequence[str], right: Sequence[str], *, split: str) -> tuple[str, str]:
    """One of each, as a combination that belongs to the split."""
    while True:
        i, j = int(rng.integers(len(left))), int(rng.integers(len(right)))
        if _is_test(i, j) == (split == "test"):
            return left[i], right[j]


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
