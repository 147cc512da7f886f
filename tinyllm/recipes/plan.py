"""How much of everything `tinyllm quickstart` does: fixed numbers, never a timing.

A plan that is made from how fast a machine is gives another assistant on every machine, and a worse one on a busy machine. So the
steps stand here, and a slow machine takes longer: one seed gives the same assistant everywhere (to the bit with one thread and
with two; another kind of processor adds up in another order, which moves figures by less than their standard errors).
What is measured is only said: about how long it will take here.

    --minutes M    every number of steps times M / MINUTES
    --steps N      N steps in each stage, and little data: to see the journey, not to get an assistant
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyllm.models import GPTConfig

MINUTES = 7.0  # of training that the default plan takes, about, on two cores
STEPS_PER_ROLLOUT = 4  # 64 answers, twice, 32 a step
COSTS = {"base_steps": 1.0, "tuned_steps": 0.58, "n_stories": 0.45, "n_rollouts": 18.0, "n_test": 0.5}  # in steps of pre-training
FIXED_COST = 280.0  # in the same unit: reading the text, learning the tokenizer, making demonstrations


@dataclass(frozen=True)
class Plan:
    """Sizes of model, data and stages. The defaults are what `tinyllm quickstart` does."""

    data: tuple[str, ...] = ("docs=python:reference:1", "docstrings=python:docstrings:3", "code=python:source:1")
    vocab_size: int = 2048
    block_size: int = 128
    n_layers: int = 4
    n_heads: int = 4
    d_model: int = 128
    n_tokenizer_conversations: int = 8000  # that the tokenizer learns from, beside the documents
    base_batch: int = 8  # rows of block_size tokens in a step
    base_steps: int = 1400
    tuned_batch: int = 16  # conversations in a step: at the same cost, four times the steps taught more than four times the batch
    tuned_steps: int = 9000
    n_demonstrations: int = 144_000
    n_stories: int = 1000  # whose summaries are rated
    n_rollouts: int = 48  # of PPO, each of STEPS_PER_ROLLOUT steps
    n_test: int = 300  # tasks, and stories
    best_of: int = 8
    seed: int = 1337

    @property
    def improved_steps(self) -> int:
        """Steps of PPO."""
        return self.n_rollouts * STEPS_PER_ROLLOUT

    def model(self, vocab_size: int) -> GPTConfig:
        """The shape of the model, for a tokenizer of that size."""
        from tinyllm.models import GPTConfig

        shape: dict[str, Any] = {name: getattr(self, name) for name in ("block_size", "n_layers", "n_heads", "d_model")}
        return GPTConfig(vocab_size=vocab_size, bias=False, init_std=0.05, **shape)

    def for_minutes(self, minutes: float) -> Plan:
        """The same journey in more steps or fewer; with half the time or less also with less data."""
        share = minutes / MINUTES
        steps = {name: max(1, round(getattr(self, name) * share)) for name in ("base_steps", "tuned_steps", "n_rollouts")}
        return replace(self._with_data(min(1.0, 2 * share)), **steps)

    def for_steps(self, steps: int) -> Plan:
        """Exactly so many steps in each stage (of PPO whole rollouts, at least one)."""
        n_rollouts = max(1, steps // STEPS_PER_ROLLOUT)
        return replace(self._with_data(min(1.0, steps / 1000)), base_steps=steps, tuned_steps=steps, n_rollouts=n_rollouts)

    def _with_data(self, part: float) -> Plan:
        least = {"n_demonstrations": 200, "n_stories": 20, "n_test": 20}
        amounts = {name: max(min(low, getattr(self, name)), int(part * getattr(self, name))) for name, low in least.items()}
        return replace(self, **amounts)

    def cost(self) -> float:
        """About how long it takes, in steps of pre-training. Only said, never planned with."""
        return FIXED_COST + sum(weight * getattr(self, name) for name, weight in COSTS.items())

    def save(self, file: Path) -> None:
        """As JSON, so that a journey that was stopped goes on as planned."""
        from tinyllm.storage import strict_json, write_file

        write_file(file, strict_json.dump(asdict(self), indent=1))


def read_plan(file: Path) -> Plan:
    """The plan in a file. FormatError for anything else."""
    from tinyllm.storage import strict_json

    kinds: dict[str, Any] = {one.name: [str] if one.name == "data" else int for one in fields(Plan)}
    found = strict_json.read(file, schema=kinds)
    return Plan(**{**found, "data": tuple(found["data"])})
