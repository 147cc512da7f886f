"""The settings of text generation: one frozen dataclass, checked when it is made.

A language model gives a probability to every next token; these settings say how one is chosen and when to stop.
Names and neutral values are those people know from transformers, except that temperature 0 means greedy (no
separate `do_sample`) and that "off" is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tinyllm.storage.explain import nearest
from tinyllm.storage.fields import check_number, check_whole

TEMPERATURE = 0.7  # at which people are shown what a model writes, by every command; 1 is the model's own belief


@dataclass(frozen=True)
class GenerationConfig:
    """How to choose the next token, and when to stop. A bad value raises ValueError with the field's name."""

    max_new_tokens: int = 128  # tokens at most, the stop token included
    temperature: float = 1.0  # divides the logits; 0 = greedy, the likeliest token each time
    top_k: int | None = None  # keep the k likeliest tokens; None = all
    top_p: float | None = None  # keep the fewest likeliest tokens with this probability in all; None = all
    min_p: float | None = None  # keep tokens at least this likely relative to the likeliest; None = all
    repetition_penalty: float = 1.0  # above 1 makes tokens already in the text less likely; 1 = off
    no_repeat_ngram_size: int = 0  # no run of this many tokens appears twice; 0 = off
    stop_tokens: tuple[int, ...] = ()  # a row ends after any of these ids (the end-of-text token, usually)
    stop_strings: tuple[str, ...] = ()  # text ends before any of these (text functions only, ids know no strings)
    n_beams: int = 1  # above 1: beam search, which keeps this many best sequences and does not sample
    length_penalty: float = 1.0  # beam search: a sequence's score is its log-probability / length ** length_penalty
    early_stopping: bool = False  # beam search: end at n_beams finished sequences, not when no better is in sight

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop_tokens", _as_tuple("stop_tokens", self.stop_tokens, int))
        object.__setattr__(self, "stop_strings", _as_tuple("stop_strings", self.stop_strings, str))
        check_whole(self, "max_new_tokens", "n_beams", low=1)
        check_whole(self, "no_repeat_ngram_size", low=0)
        check_whole(self, "top_k", low=1, optional=True)
        if self.temperature != 0:
            check_number(self, "temperature", low=1e-5, hint=", or 0 for the likeliest token each time")
        check_number(self, "top_p", "min_p", above=0, high=1, optional=True)
        check_number(self, "repetition_penalty", above=0)
        check_number(self, "length_penalty", low=-50, high=50)  # beyond, length ** penalty overflows
        if "" in self.stop_strings:
            raise ValueError("stop_strings has an empty string, which would stop at once; leave it out")
        if self.n_beams > 1:
            self._check_beam_search()

    def _check_beam_search(self) -> None:
        for name, neutral in (
            ("temperature", (0, 1)),
            ("top_k", (None,)),
            ("top_p", (None,)),
            ("min_p", (None,)),
            ("repetition_penalty", (1,)),
        ):
            if getattr(self, name) not in neutral:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r} with n_beams {self.n_beams}; beam search does "
                    f"not sample: leave {name} at its default, or set n_beams=1"
                )

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn at random, so that an rng is needed."""
        return self.temperature > 0 and self.n_beams == 1


def make_config(config: GenerationConfig | None, settings: dict[str, Any]) -> GenerationConfig:
    """`config` (or the defaults) with `settings` on top; an unknown name raises ValueError that says the nearest."""
    known = [field.name for field in fields(GenerationConfig)]
    for name in settings:
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near}?" if near else f"known settings: {', '.join(known)}"
            raise ValueError(f"{name} is not a generation setting; {hint}")
    return replace(config or GenerationConfig(), **settings)


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _as_tuple(name: str, values: Any, kind: type) -> tuple:
    if isinstance(values, str | int | np.integer) or not isinstance(values, Sequence | np.ndarray | set | frozenset):
        raise ValueError(f"{name} is {values!r}; expected a tuple of {kind.__name__}, as in {name}=({values!r},)")
    values = tuple(values)
    for value in values:
        if not (_is_whole(value) if kind is int else isinstance(value, kind)):
            raise ValueError(f"{name} has {value!r}; expected only {kind.__name__}")
    return tuple(dict.fromkeys(kind(value) for value in values))  # each once
