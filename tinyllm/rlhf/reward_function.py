"""A reward as a Python function of your own: the file is named, so it is loaded; nothing else ever is.

    my_reward.py:   def score(prompt, answer): return 1.0 if "please" in answer else 0.0

    reward = load_reward_function("my_reward.py:score")
    reward(["Hi"], ["Yes, please."])       -> [1.0]

With parameters called `prompts` and `answers` (or `completions`) the function gets all of a round at once and gives a list. Where
right and wrong can be computed no reward model is needed (verifiable rewards, as in DeepSeek-R1, Guo et al. 2025, section 2.2.2).
It should give the same number for the same answer, or a resumed run is not the run it was.
"""

import importlib.util
import inspect
import math
import numbers
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tinyllm.storage.explain import nearest


@dataclass(frozen=True)
class RewardFunction:
    """A function from a user's file, called with texts. ValueError, with its file and line, for what goes wrong in it."""

    function: Callable[..., Any]
    file: Path
    of_lists: bool  # whether it takes all prompts and answers at once

    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        """A number for each answer, higher is better."""
        try:
            if self.of_lists:
                scores = self.function(list(prompts), list(answers))
            else:
                scores = [self.function(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        except Exception as error:
            raise ValueError(f"reward: {_place(error, self.file)}") from error
        return self._checked(scores, answers)

    def _checked(self, scores: Any, answers: Sequence[str]) -> list[float]:
        name = f"{self.file.name}:{self.function.__name__}"
        if not hasattr(scores, "__len__") or len(scores) != len(answers):
            found = f"{len(scores)} values" if hasattr(scores, "__len__") else f"a {type(scores).__name__}"
            raise ValueError(f"reward: {name} gave {found} for {len(answers)} answers; expected a list with one number for each")
        for score, answer in zip(scores, answers, strict=True):
            if not isinstance(score, numbers.Real) or not math.isfinite(score):
                raise ValueError(f"reward: {name} gave {score!r:.40} for the answer {answer!r:.80}; expected a finite number")
        return [float(score) for score in scores]


def load_reward_function(where: str) -> RewardFunction:
    """The function that "FILE.py:NAME" stands for. ValueError says what is wrong: the words, the file, or a line in it."""
    path, _, name = where.rpartition(":")
    file = Path(os.path.expanduser(path))
    if not path or file.suffix != ".py" or not name.isidentifier():
        raise ValueError(f"reward is {where!r}; expected a file and a function in it, such as my_reward.py:score")
    if not file.is_file():
        raise ValueError(f"reward: {file} is no file; give the Python file with the function {name}")
    function = getattr(module := _load(file), name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        near = nearest(name, known)
        hint = f"did you mean {near}?" if near else f"it has {', '.join(known) or 'no function'}"
        raise ValueError(f"reward: {file} has no function {name}; {hint}")
    return RewardFunction(function, file, _takes_lists(function, f"{file}:{name}"))


def _load(file: Path) -> ModuleType:
    """The user's file as a module."""
    spec = importlib.util.spec_from_file_location(f"reward_of_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses, for instance, look for the module they are in
    try:
        spec.loader.exec_module(module)
    except SystemExit as stop:
        raise ValueError(
            f"reward: {file} ends the program (exit code {stop.code}) when it is read; define the function alone"
        ) from None
    except Exception as error:
        raise ValueError(f"reward: {_place(error, file)}") from error
    return module


def _takes_lists(function: Callable[..., Any], where: str) -> bool:
    """Whether the function's parameters are those for lists. ValueError unless it can be called with two arguments."""
    try:
        signature = inspect.signature(function)
        signature.bind("prompt", "answer")
    except (TypeError, ValueError):
        expected = "def score(prompt, answer), or def score(prompts, answers) for lists"
        raise ValueError(f"reward: {where} cannot be called with a prompt and an answer; expected {expected}") from None
    return list(signature.parameters)[:2] in (["prompts", "answers"], ["prompts", "completions"])


def _place(error: Exception, file: Path) -> str:
    """Where in the user's file it went wrong, and what."""
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return f"{file}, line {frames[-1].lineno}, in {frames[-1].name}: {what}" if frames else f"{file}: {what}"
