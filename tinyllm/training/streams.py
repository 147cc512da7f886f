"""Random streams by name: each use of random numbers in a run has a generator of its own, made from the run's one seed.

    stream(seed, "order of pairs")       stream(seed, "sample", step, number)

A generator that two users share is a trap: what one of them draws decides what the other gets, so a run that draws less after
a stop (held-out data need no new order, say) goes on with other numbers. Hence one name, one user. Equal seeds and names
give equal numbers (NumPy's SeedSequence mixes all of them into one state).
"""

import numpy as np

# name -> its number in the seed; a number is never used again for something else
NAMES = {
    "weights": 0,
    "windows of text": 1,
    "sample": 2,
    "demonstrations": 10,
    "test tasks": 12,
    "order of conversations": 13,
    "answers to label": 14,
    "reward head": 15,
    "order of compared prompts": 16,
    "rollouts": 17,
    "answers to test": 18,
    "new tokens": 20,
    "adapters": 21,
    "order of pairs": 22,
    "prompts": 23,
    "adapters of the policy": 24,
    "order of held-out pairs": 25,
    "suggestions": 26,
    "head of a classifier": 27,
    "order of labelled texts": 28,
}


def stream(seed: int, name: str, *more: int) -> np.random.Generator:
    """The generator of that name. `more`: numbers that tell its repetitions apart. ValueError for a name not listed."""
    if name not in NAMES:
        raise ValueError(f"name is {name!r}; expected one of {', '.join(NAMES)}, or a new one with a number of its own")
    return np.random.default_rng([seed, NAMES[name], *more])
