"""Comparisons as ids: all answers to one prompt side by side, each encoded once, and which was preferred to which.

    prompt   answers  a b c d        pairs  b > a, b > c, d > a, ...        at most K (K - 1) / 2 from one labeler

The pairs of one prompt are not independent of each other. Spread over an epoch, an answer with K - 1 comparisons is seen
K - 1 times and learned by heart; InstructGPT therefore puts all of them into one batch (Ouyang et al. 2022, section 3.5),
which is K forward passes instead of K (K - 1). A reward model learns from such groups, DPO from their single pairs.
"""

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tinyllm.data.conversations.preferences import Preference
from tinyllm.tokenizers import Tokenizer
from tinyllm.tokenizers.chat_templates import Chat


@dataclass(frozen=True)
class ComparedAnswers:
    """One prompt, its K answers, and N comparisons between them."""

    prompt: list[int]  # ids, up to where the answer begins
    answers: list[list[int]]  # K lists of ids, stop token included
    pairs: np.ndarray  # (N, 2) int: which answer was preferred, to which
    margins: np.ndarray  # (N,) by how much, in the labeler's units; 0 where unknown


@dataclass(frozen=True)
class EncodingReport:
    """What became of the preferences: kept, and what was left out and why."""

    n_kept: int = 0
    n_equal: int = 0  # chosen and rejected are the same ids: nothing to learn, and a loss of ln 2 for ever
    n_no_room: int = 0  # the prompt alone fills the context
    n_too_long: int = 0  # an answer does not fit behind its prompt

    def __str__(self) -> str:
        reasons = f"{self.n_equal} of equal answers, {self.n_no_room} whose prompt leaves no room, {self.n_too_long} too long"
        return f"{self.n_kept} comparisons; left out: {reasons}"


def encode_preferences(
    preferences: Iterable[Preference], chat: Chat, *, block_size: int
) -> tuple[list[ComparedAnswers], EncodingReport]:
    """Groups of comparisons, one a prompt, in the order in which prompts first come; and the report of what was left out.

    chat        a ChatFormat of the tokenizer of the model that is to read them
    block_size  that model's context in tokens: a pair that does not fit is left out whole, for a cut answer is another one

    ValueError if nothing is left.
    """
    counts = {"n_kept": 0, "n_equal": 0, "n_no_room": 0, "n_too_long": 0}
    groups: dict[str, _Group] = {}
    for preference in preferences:
        key = json.dumps([dict(message) for message in preference.prompt])
        group = groups.get(key) or _Group(chat.prompt(preference.prompt))
        chosen, rejected = chat.answer(preference.chosen), chat.answer(preference.rejected)
        fate = _fate(group.prompt, chosen, rejected, block_size)
        counts[fate] += 1
        if fate == "n_kept":
            groups.setdefault(key, group).add(chosen, rejected, preference.margin or 0.0)
    report = EncodingReport(**counts)
    if not groups:
        advice = f"check the file, and the model's block_size {block_size}"
        raise ValueError(f"preferences: none can be learned from ({report}); {advice}")
    return [group.finished() for group in groups.values()], report


def _fate(prompt: list[int], chosen: list[int], rejected: list[int], block_size: int) -> str:
    """The count of EncodingReport that a pair belongs to."""
    if len(prompt) >= block_size:
        return "n_no_room"
    if len(prompt) + max(len(chosen), len(rejected)) > block_size:
        return "n_too_long"
    return "n_equal" if chosen == rejected else "n_kept"


class _Group:
    """A prompt whose answers are being collected, each once."""

    def __init__(self, prompt: list[int]):
        self.prompt = prompt
        self.index: dict[tuple[int, ...], int] = {}
        self.pairs: list[tuple[int, int]] = []
        self.margins: list[float] = []

    def add(self, chosen: list[int], rejected: list[int], margin: float) -> None:
        better, worse = (self.index.setdefault(tuple(ids), len(self.index)) for ids in (chosen, rejected))
        self.pairs.append((better, worse))
        self.margins.append(margin)

    def finished(self) -> ComparedAnswers:
        answers = [list(ids) for ids in self.index]
        return ComparedAnswers(self.prompt, answers, np.array(self.pairs), np.array(self.margins, dtype=np.float32))


def check_same_tokenizer(policy_tokenizer: Tokenizer, other_tokenizer: Tokenizer, *, name: str = "the reward model") -> None:
    """ValueError unless both are the same tokenizer: a model that is handed other ids reads another text, fluently."""
    ours, theirs = policy_tokenizer.fingerprint(), other_tokenizer.fingerprint()
    if ours != theirs:
        raise ValueError(
            f"tokenizer: the policy's has sha256 {ours[:12]}..., that of {name} {theirs[:12]}...; "
            "train both from the same base model, or give texts and not ids from one to the other"
        )


def checksum(groups: Iterable[ComparedAnswers]) -> int:
    """A number that differs when any id or comparison does: whether a state belongs to these data."""
    value = 0
    for group in groups:
        lists: list[Sequence[int]] = [group.prompt, *group.answers, group.pairs.ravel().tolist()]
        for ids in lists:
            value = zlib.crc32(np.array([len(ids), *ids], dtype=np.int64).tobytes(), value)
    return value
