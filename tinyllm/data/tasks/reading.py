"""Facts to be found in a sentence of the question: who did what, where and when.

    On Monday Anna Reed bought a lamp in Oslo. Where was it?   ->   Oslo

The sentences are about people who do not exist, so the answer stands in the question and nowhere else: what is learned is to
look there and copy. Which persons are in the test set is decided by their names (`made_up.py`).
"""

import numpy as np

from tinyllm.data.tasks.contents import TOWNS, draw, person, pick
from tinyllm.data.tasks.exact import Fields, crossed, joined, task

THINGS = "lamp book clock table letter ring map key box ship bell cup rope chair".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
VERBS = {"bought": "buy", "found": "find", "sold": "sell", "made": "make", "lost": "lose", "saw": "see"}  # past -> infinitive
SENTENCES = (
    "On {day} {who} {did} a {what} in {where}.",
    "{who} {did} a {what} in {where} on {day}.",
    "In {where}, {who} {did} a {what} on {day}.",
    "On {day}, in {where}, {who} {did} a {what}.",
)
QUESTIONS = {
    "{who}": (" Who was it?", " Name the person.", " Who is the person?", " Person?",
              " Who {did} it?", " Who {did} the {what}?", " Tell me who.", " Who {did} a {what}?"),
    "{what}": (" What was it?", " Name the thing.", " What is the thing?", " Thing?",
               " What did {who} {do}?", " What was {did}?", " Tell me what.", " What did {who} {do} there?"),
    "{where}": (" Where was it?", " Name the town.", " Where is the town?", " Town?",
                " Where did {who} {do} it?", " In which town?", " Tell me where.", " Where was {who}?"),
    "{day}": (" When was it?", " Name the day.", " When is the day?", " Day?",
              " When did {who} {do} it?", " On which day?", " Tell me when.", " Which day was it?"),
}  # fmt: skip


def event(rng: np.random.Generator, split: str) -> Fields:
    """Who, what, where and when; the person decides the side."""
    who = draw(person, split=split, rng=rng)
    did = pick(list(VERBS), rng)
    return {
        "who": who, "where": pick(TOWNS, rng), "what": pick(THINGS, rng), "day": pick(DAYS, rng), "did": did, "do": VERBS[did],
    }  # fmt: skip


_ASKED = joined(*(crossed(SENTENCES, asked, answer=answer) for answer, asked in QUESTIONS.items()))
TASKS = (task("extract", event, _ASKED, weight=3.0),)
