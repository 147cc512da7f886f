"""Texts from a model, as they are written: it goes on with a prompt, or answers it as a user of a chat would be answered."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tinyllm.chat import Piece, Reply, reply
from tinyllm.decoding import GenerationConfig, encode_prompt, generate_text, keep_tail, write_on
from tinyllm.models.contract import LanguageModel
from tinyllm.tokenizers import Tokenizer
from tinyllm.tokenizers.chat import ChatFormat, Message


@dataclass(frozen=True)
class Writer:
    """A model that writes. `notice` is told what a reader should know, such as that a long prompt was cut."""

    model: LanguageModel
    tokenizer: Tokenizer
    config: GenerationConfig
    notice: Callable[[str], None]

    def samples(self, prompt: bytes, *, n: int, seed: int) -> Iterator[Iterator[str]]:
        """For each of n texts that follow `prompt`, its pieces. What all have in common is noticed once."""
        if self.config.n_beams > 1:
            yield iter([self._best(encode_prompt(self.tokenizer, prompt), self.config)])
            return
        for number in range(n):
            tell = self.notice if number == 0 else lambda text: None
            rng = np.random.default_rng([seed, number])
            yield write_on(self.model, self.tokenizer, prompt, config=self.config, rng=rng, notice=tell)

    def answers(self, prompt: bytes, *, n: int, seed: int) -> Iterator[Iterator[str]]:
        """For each of n answers to `prompt` its pieces."""
        messages: list[Message] = [{"role": "user", "content": prompt.decode("utf-8", "replace")}]
        if self.config.n_beams > 1:
            chat = ChatFormat(self.tokenizer)
            config = replace(self.config, stop_tokens=(*self.config.stop_tokens, chat.end_id))
            yield iter([self._best(chat.prompt(messages), config)])
            return
        for number in range(n):
            yield self._answer(messages, rng=np.random.default_rng([seed, number]))

    def _answer(self, messages: list[Message], *, rng: np.random.Generator) -> Iterator[str]:
        """The words of one answer as they are written; the calculator is called where the model calls it."""
        for event in reply(self.model, self.tokenizer, messages, config=self.config, rng=rng):
            if isinstance(event, Piece):
                yield event.text
            elif isinstance(event, Reply) and event.finish_reason == "context":
                self.notice(f"the answer was cut off: the context of {self.model.config.block_size} tokens was full")

    def _best(self, ids: list[int], config: GenerationConfig) -> str:
        """The text that beam search finds; it must fit into the context."""
        block_size = self.model.config.block_size
        config = replace(config, max_new_tokens=min(config.max_new_tokens, max(block_size // 2, 1)))
        ids = keep_tail(ids, block_size=block_size, max_new_tokens=config.max_new_tokens, notice=self.notice)
        return generate_text(self.model, self.tokenizer, ids, config=config)
