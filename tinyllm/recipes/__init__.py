"""Recipes: what a command does, callable from Python. Each takes settings dataclasses, tells a function of yours how it goes, and
returns what came of it. Each is a function in the file of its name:

    from tinyllm.recipes.finetune import finetune

pretrain    text -> a model that continues text          (texts, samples, sizes)
finetune    conversations -> one that answers            (demonstrations)
classify    labelled texts -> one that sorts texts
label       prompts -> answers to be rated               (prompts)
reward      rated answers -> one that judges             dpo   the same pairs -> a better policy, at once
improve     prompts and a judge -> a better policy, by PPO, GRPO, RLOO or REINFORCE
quickstart  all of it, on data whose truth is known      (journey, plan, compare)
evaluate    loss, perplexity, right answers              load  a trained model, ready to write, answer and judge

What they share: events (what is told), inputs and runs (folders that can be gone on with), tuning, compile_ahead.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyllm.recipes.loading import LoadedModel, LoadedRewardModel, load

__all__ = ["LoadedModel", "LoadedRewardModel", "load"]


def __getattr__(name: str) -> Any:
    """What loads a model, at its first use: a command reads what it needs, and no more."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("tinyllm.recipes.loading"), name)
