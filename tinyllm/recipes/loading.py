"""One way in from Python: `tinyllm.load` finds the model in a folder and puts what one does with it on three methods.

    llm = tinyllm.load("runs/quickstart")            a run, a stage of quickstart, a checkpoint, a model's folder
    llm.generate("The return value")                 the text that follows
    llm.chat([{"role": "user", "content": "Hi"}])    the assistant's answer
    llm.score("Paris", after="The capital is ")      log-probability of the text, in nats; of a reward model: the reward

`llm.model` and `llm.tokenizer` are the parts themselves, for everything else: llm.model(tokens) gives the logits.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyllm.chat import Reply, newest_turns, read_chat_settings, reply
from tinyllm.decoding import GenerationConfig, encode_prompt, generate_text, write_on
from tinyllm.decoding.config import TEMPERATURE, make_config
from tinyllm.models import Model, RewardModel, SequenceClassifier, load_model, load_tokenizer_for
from tinyllm.models.contract import LanguageModel
from tinyllm.models.registry import has_head
from tinyllm.nn import quantize
from tinyllm.recipes.compile_ahead import ensure_compiled
from tinyllm.recipes.events import Show, silent
from tinyllm.recipes.runs import saved_settings
from tinyllm.rlhf.log_probs import frozen_log_probs
from tinyllm.rlhf.reward_model import score_sequences
from tinyllm.rlhf.sequences import Sequences, pad_sequences
from tinyllm.storage import FormatError
from tinyllm.tokenizers import Tokenizer
from tinyllm.tokenizers.chat import ChatFormat, Message, check_messages
from tinyllm.tokenizers.chat_templates import TemplateChatFormat, chat_format
from tinyllm.training.model_folder import find_model, run_of


@dataclass(frozen=True)
class LoadedModel:
    """A language model with its tokenizer. All its draws come from `rng`, so a program with one seed writes one text."""

    model: LanguageModel
    tokenizer: Tokenizer
    rng: np.random.Generator
    turns: int | None = None  # newest turns of a conversation that it is given; None: as many as its context holds

    def generate(self, prompt: str = "", **settings: Any) -> str:
        """The text that follows `prompt`; an empty one begins a document. It may grow longer than the model's context.

        settings  of decoding.GenerationConfig: max_new_tokens, temperature (0.7 as in every command; 0: always the likeliest
                  token), top_k, top_p, stop_strings ... ValueError for an unknown one, and for a bad value
        """
        config = _config(settings)
        if config.n_beams > 1:  # beam search: one text, within the context
            return generate_text(self.model, self.tokenizer, prompt, config=config)
        return "".join(write_on(self.model, self.tokenizer, prompt, config=config, rng=self.rng))

    def chat(self, messages: Sequence[Message] | str, **settings: Any) -> Reply:
        """The assistant's answer: its words are `.text`, and `.messages` is what to append to go on with the conversation.

        messages  a conversation that ends with the user's message, or the text of one message
        It is given as many of the newest turns as it learned from. Calls of the calculator are carried out. settings as in
        `generate`; max_new_tokens is for each of its messages.
        """
        config, conversation = _config(settings), _conversation(messages)
        check_messages(conversation)
        seen = newest_turns(conversation, self.turns)
        *_, last = reply(self.model, self.tokenizer, seen, config=config, rng=self.rng)
        assert isinstance(last, Reply)
        return last

    def score(self, text: str, *, after: Sequence[Message] | str = "") -> float:
        """log p(text | after) in nats: 0 would be certain, and of two texts the higher is the likelier.

        after  the text before it (none: the start of a document), or a conversation that `text` answers
        ValueError for an empty text, and for one that does not fit into the context with what stands before it.
        """
        return float(frozen_log_probs(self.model, _sequences(self, text, after)).sum(dtype=np.float64))


@dataclass(frozen=True)
class LoadedRewardModel:
    """A reward model with its tokenizer: it judges answers and writes none."""

    model: RewardModel
    tokenizer: Tokenizer

    def score(self, text: str, *, after: Sequence[Message] | str) -> float:
        """The reward of `text` as the answer to a conversation (or to one message), as it was trained to give it."""
        return float(score_sequences(self.model, _sequences(self, text, _conversation(after)))[0])


def load(path: str | os.PathLike[str], *, seed: int = 1337) -> LoadedModel | LoadedRewardModel:
    """The model that `path` stands for: the folder of a run, of a stage of quickstart, of a checkpoint, or the model's own.

    seed  starts the random numbers with which texts are drawn
    ValueError, saying what to give instead, where there is no model; FormatError, naming the file, for one that is damaged.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed is {seed!r}; expected a whole number, 0 or more")
    folder = find_model(path)
    if has_head(folder):
        return LoadedRewardModel(RewardModel.from_pretrained(folder), load_tokenizer_for(folder))
    turns = read_chat_settings(folder).turns
    return LoadedModel(load_model(folder), load_tokenizer_for(folder), np.random.default_rng(seed), turns)


def load_writer(path: str | os.PathLike[str], *, int8: bool = False, show: Show = silent) -> tuple[LanguageModel, Tokenizer]:
    """The language model that `path` stands for and its tokenizer; kernels are compiled if need be.

    int8  with its weights rounded to 8 bits: a quarter of the memory, faster, a little less exact
    """
    folder = find_model(path)
    model, tokenizer = load_model(folder), load_tokenizer_for(folder)
    if int8:
        quantize(model)
    ensure_compiled(show)
    return model, tokenizer


def describe(path: str | os.PathLike[str]) -> tuple[str, Model]:
    """What `path` stands for, in words, and the model, without its head."""
    folder = find_model(path)
    if not has_head(folder):
        model = load_model(folder)
        return f"The {type(model).__name__} in {folder}", model
    try:
        reward = RewardModel.from_pretrained(folder)
        return f"The reward model in {folder}: a {type(reward.trunk).__name__} and a head of C more weights", reward.trunk
    except FormatError:
        classifier = SequenceClassifier.from_pretrained(folder)
    labels = f"a head for {len(classifier.head.weight.data)} labels, of C weights each"
    return f"The classifier in {folder}: a {type(classifier.trunk).__name__} and {labels}", classifier.trunk


def speaks_chat(path: str | os.PathLike[str], tokenizer: Tokenizer) -> bool:
    """Whether the model was trained on conversations: it has the tokens for them, and is not out of pre-training alone."""
    if not isinstance(chat_format(tokenizer), ChatFormat | TemplateChatFormat):
        return False
    run = run_of(find_model(path))
    return run is None or "data" not in saved_settings(run)  # the settings of pre-training


def _config(settings: dict[str, Any]) -> GenerationConfig:
    """The settings as given, else those at which every command shows what a model writes."""
    return make_config(None, settings if settings.get("n_beams", 1) != 1 else {"temperature": TEMPERATURE, **settings})


def _conversation(messages: Sequence[Message] | str) -> Sequence[Message]:
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else messages


def _sequences(loaded: LoadedModel | LoadedRewardModel, text: str, after: Sequence[Message] | str) -> Sequences:
    """`text` and what stands before it as one row. An answer ends with the token that ends a turn, for that is part of it."""
    if not isinstance(text, str) or not text:
        raise ValueError(f"text is {text!r:.80}; expected some text to score")
    if isinstance(after, str):
        before, ids = encode_prompt(loaded.tokenizer, after), loaded.tokenizer.encode(text)
    else:
        form = chat_format(loaded.tokenizer)
        before, ids = form.prompt(after), form.answer(text)
    room = loaded.model.config.block_size
    if len(before) + len(ids) > room:
        found = f"{len(ids)} tokens after {len(before)}"
        raise ValueError(f"text: {found} are more than the model's context of {room} holds; score a shorter one")
    return pad_sequences([before], [ids])
