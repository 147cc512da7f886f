"""Conversations to learn from: made, or read from files, and as ids, some of them held out.

make_demonstrations(n, seed=...)          questions with exact answers, and summaries of small news
read_demonstrations(files, ...)           those in files, in any format people publish
encode_demonstrations(conversations, ...) -> Demonstrations
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinyllm.data.conversations.messages import read_conversations
from tinyllm.data.split import hold_out
from tinyllm.data.tasks.instructions import make_instructions
from tinyllm.data.tasks.news import make_stories, make_summary, story_prompt
from tinyllm.recipes.events import Said, Show, silent
from tinyllm.tokenizers import Tokenizer
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.training import TrainConfig
from tinyllm.training.streams import stream

NEWS_SHARE = 0.2  # of the made demonstrations

Conversation = list[dict[str, str]]
Encoded = tuple[list[int], list[bool]]


def make_demonstrations(n: int, *, seed: int) -> list[Conversation]:
    """n questions, each answered: tasks with exact answers, and summaries of mixed quality, in random order.

    Every question stands alone. Learned in conversations of several, at the same cost, fewer were answered right, the first of a
    conversation too; so a chat gives the model the newest message alone (chat/settings.py).
    """
    rng = stream(seed, "demonstrations")
    n_news = int(n * NEWS_SHARE)
    conversations = [item.messages for item in make_instructions(n - n_news, split="train", rng=rng)]
    for story in make_stories(n_news, split="train", seed=seed + 1):
        conversations.append([*story_prompt(story), {"role": "assistant", "content": make_summary(story, rng)}])
    return [conversations[i] for i in rng.permutation(len(conversations))]


def read_demonstrations(
    files: Sequence[str], *, roles: Mapping[str, str], n_made: int, seed: int, show: Show = silent
) -> list[Conversation]:
    """Those of the files, or `n_made` made ones where there are no files; says which."""
    if not files:
        made = make_demonstrations(n_made, seed=seed)
        show(Said(f"Conversations: {len(made):,}, of {n_made:,} made questions and answers"))
        return made
    conversations: list[Conversation] = []
    for path in files:
        found, report = read_conversations(os.path.expanduser(path), roles=roles)
        conversations += found
        show(Said(f"Conversations: {report}"))
    return conversations


@dataclass(frozen=True)
class Demonstrations:
    """Conversations as (ids, loss mask): those to learn from, those held out, and in words what was left out ("" if nothing)."""

    training: list[Encoded]
    held_out: list[Encoded]
    left_out: str

    @property
    def n(self) -> int:
        """How many conversations are used."""
        return len(self.training) + len(self.held_out)


def encode_demonstrations(
    conversations: Sequence[Conversation], tokenizer: Tokenizer, *, block_size: int, config: TrainConfig,
    validation_fraction: float = 0.05,
) -> Demonstrations:  # fmt: skip
    """The conversations that fit the context, as ids, some of them held out. ValueError unless two are left."""
    encoded = [ChatFormat(tokenizer).encode(messages) for messages in conversations]
    fitting = [one for one in encoded if len(one[0]) <= block_size + 1]
    left_out = f"{len(encoded) - len(fitting):,} of {len(encoded):,} longer than the model's context of {block_size} tokens"
    left_out = left_out if len(fitting) < len(encoded) else ""
    if len(fitting) < 2:
        found = f"{len(encoded)} came{', ' * bool(left_out)}{left_out}"
        advice = "; begin with a model trained with a longer context (tinyllm train --block-size N)" if left_out else ""
        raise ValueError(f"conversations: {found}; at least two must fit, one to learn from and one to hold out{advice}")
    n_held_out = max(1, min(int(len(fitting) * validation_fraction), config.eval_batches * config.batch_size))
    try:
        training, held_out = hold_out(fitting, n_held_out, seed=config.seed, content=lambda one: tokenizer.decode_bytes(one[0]))
    except ValueError as error:
        raise ValueError(f"conversations: {error}") from None
    return Demonstrations(training, held_out, left_out)
