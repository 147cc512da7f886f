"""Answers to be labeled, and a simulated labeler who labels them: InstructGPT's second step, first half.

    label("runs/chat", ["prompts.jsonl"], out="items.jsonl")        five different answers of the model to each prompt

Answers are drawn at temperature 1, as the model believes. They must differ, or there is nothing to compare: an answer that
is there already is drawn again, some times; a prompt to which the model has one answer only is left out.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tinyllm.data.conversations.preferences import Preference
from tinyllm.data.tasks.news import Story, story_prompt
from tinyllm.decoding import GenerationConfig, generate
from tinyllm.labels import LabelStore, pairs_from_labels, read_items, write_items
from tinyllm.labels.items import FEWEST_ANSWERS, MOST_ANSWERS, Item
from tinyllm.labels.news_items import news_item, news_labeler
from tinyllm.labels.pairs import PairReport
from tinyllm.models.contract import LanguageModel
from tinyllm.recipes.events import Show, counting, silent
from tinyllm.recipes.loading import load_writer
from tinyllm.recipes.prompts import Prompt, read_prompts
from tinyllm.storage.fields import check_whole
from tinyllm.tokenizers import Tokenizer
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.tokenizers.chat_templates import Chat, chat_format
from tinyllm.training.streams import stream

MAX_NEW_TOKENS = 42  # of a summary of small news; the longest demonstration has 41
MOST_DRAWS = 10  # for each answer that is wanted, before the model is said to have no other


@dataclass(frozen=True)
class LabelConfig:
    """How answers to be labeled are drawn."""

    n_prompts: int | None = None  # so many of them (default: all of a file, 50 of news)
    n_answers: int = 5  # answers to each prompt
    max_new_tokens: int = 128  # longest answer
    temperature: float = 1.0  # 1 draws as the model believes
    seed: int = 1337  # the same number gives the same answers

    def __post_init__(self) -> None:
        check_whole(self, "n_answers", low=FEWEST_ANSWERS, high=MOST_ANSWERS)
        check_whole(self, "seed", low=0)
        check_whole(self, "n_prompts", low=1, optional=True)
        self.generation()

    def generation(self) -> GenerationConfig:
        """The settings of sampling."""
        return GenerationConfig(max_new_tokens=self.max_new_tokens, temperature=self.temperature)


@dataclass(frozen=True)
class Labelled:
    """Items that wait for labels, and to how many prompts the model had one answer only."""

    file: Path
    items: list[Item]
    n_left_out: int


def label(
    model: str | Path, prompts: Sequence[str], *, out: str | Path, config: LabelConfig | None = None, show: Show = silent
) -> Labelled:
    """Let a model answer the prompts in files, and write what a labeler is shown to the file `out`."""
    config, file = config or LabelConfig(), new_file(out)
    rng = np.random.default_rng([config.seed, 1])
    asked = [one for path in prompts for one in read_prompts(path, n=config.n_prompts, rng=rng, show=show)][: config.n_prompts]
    policy, tokenizer = load_writer(model)
    count = counting(show, "answers", total=len(asked), unit="prompt")
    items: list[Item] = []
    for item in sample_items(policy, tokenizer, asked, n_answers=config.n_answers, config=config.generation(), seed=config.seed):
        items.append(item)
        count(len(items))
    if not items:
        raise ValueError(
            "the model gives one and the same answer to each prompt, so there is nothing to compare; raise --temperature"
        )
    write_items(file, items)
    return Labelled(file, items, len(asked) - len(items))


def new_file(path: str | Path) -> Path:
    """The path of a file to be written; ValueError if it is there already, since labels are somebody's work."""
    out = Path(os.path.expanduser(path))
    if out.exists():
        raise ValueError(f"{out} exists; choose another name, or remove it")
    if not out.parent.is_dir():
        raise ValueError(f"the folder {out.parent} does not exist; make it, or choose another place")
    return out


def sample_items(
    model: LanguageModel, tokenizer: Tokenizer, prompts: Sequence[Prompt], *, n_answers: int, config: GenerationConfig, seed: int
) -> Iterator[Item]:
    """Yield an item for each prompt, with up to `n_answers` different answers: fewer where the model finds no more.

    A prompt with a single answer gives no item.
    ValueError if a prompt leaves no room for an answer in the model's context.
    """
    chat = chat_format(tokenizer)
    for number, prompt in enumerate(prompts):
        rng = np.random.default_rng([seed, number])
        answers = _answers(model, chat, prompt.messages, n_answers=n_answers, rng=rng, config=config)
        if len(answers) < FEWEST_ANSWERS:
            continue
        yield Item(f"{number:05d}", prompt.messages, tuple(answers), source=prompt.source, data=prompt.data)


def _answers(
    model: LanguageModel, chat: Chat, messages: list[dict[str, str]], *, n_answers: int,
    rng: np.random.Generator, config: GenerationConfig,
) -> list[str]:  # fmt: skip
    """Different answers to one conversation, each as the assistant's text; a call of a tool is shown as one.

    All are drawn as one batch; for those that came twice a batch of the missing number is drawn, up to MOST_DRAWS in all.
    """
    ids = chat.prompt(messages)
    room = model.config.block_size - len(ids)
    if room < 1:
        raise ValueError(f"prompts: one has {len(ids)} tokens, the model's context {model.config.block_size}: no room to answer")
    config = replace(config, max_new_tokens=min(config.max_new_tokens, room), stop_tokens=chat.tokenizer.stop_ids)
    answers: dict[str, None] = {}  # in the order in which they came
    for _ in range(MOST_DRAWS if config.samples else 1):
        result = generate(model, [ids] * (n_answers - len(answers)), config=config, rng=rng)
        replies = [chat.parse([int(i) for i in tokens]) for tokens in result.tokens]
        texts = [reply["content"] + (f" [{reply['tool_call']}]" if "tool_call" in reply else "") for reply in replies]
        answers |= dict.fromkeys(texts)
        if len(answers) == n_answers:
            break
    return list(answers)


def label_stories(
    model: LanguageModel, tokenizer: Tokenizer, stories: Sequence[Story], *, folder: Path, seed: int, k: int = 5
) -> tuple[list[Preference], PairReport]:
    """The model answers each story k times, the simulated labeler rates. (preferences, report).

    items.jsonl and labels.jsonl are left in `folder`, where `tinyllm label` shows the same answers to a person. What stands there
    already stays: answers are not written again, only missing labels are added, and those of people are not touched (nor
    learned from here, so that one seed gives one model whoever was labeling meanwhile).
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "items.jsonl"
    if not file.exists():
        answers = sample_answers(model, tokenizer, stories, k=k, rng=stream(seed, "answers to label"))
        named = enumerate(zip(stories, answers, strict=True))
        write_items(file, [news_item(f"news-{i:04d}", story, own) for i, (story, own) in named])
    items = read_items(file)
    with LabelStore(folder / "labels.jsonl", items) as store:
        labels = news_labeler("simulated", items, seed=seed).label_all(items, store)
    return pairs_from_labels({label.place: label for label in labels}, items)


def sample_answers(
    model: LanguageModel,
    tokenizer: Tokenizer,
    stories: Sequence[Story],
    *,
    k: int,
    rng: np.random.Generator,
    temperature: float = 1.0,
) -> list[list[str]]:
    """`k` sampled answers of the model to each story."""
    chat = ChatFormat(tokenizer)
    prompts = [chat.prompt(story_prompt(story)) for story in stories for _ in range(k)]
    texts: list[str] = []
    for first in range(0, len(prompts), 256):
        part = prompts[first : first + 256]
        room = model.config.block_size - max(map(len, part))
        config = GenerationConfig(min(MAX_NEW_TOKENS, room), temperature=temperature, stop_tokens=(chat.end_id,))
        result = generate(model, part, config=config, rng=rng)
        texts += [chat.parse(ids)["content"] for ids in result.tokens]
    return [texts[i : i + k] for i in range(0, len(texts), k)]
