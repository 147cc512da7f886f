"""Texts that a model writes while it learns, kept in samples.jsonl: the loss as a reader sees it.

The random numbers of a sample come from the run's seed and the step alone, never from the generators that training
uses. So looking at a run does not change it, and a resumed run writes the same samples.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tinyllm.decoding import TEMPERATURE, GenerationConfig, encode_prompt, write_on
from tinyllm.models.contract import LanguageModel
from tinyllm.storage.json_lines import append_line
from tinyllm.tokenizers import Tokenizer
from tinyllm.training.metrics import keep_records
from tinyllm.training.streams import stream

FILE = "samples.jsonl"


@dataclass(frozen=True)
class SampleConfig:
    """What the model writes at each evaluation. ValueError names the field that does not make sense."""

    n_samples: int = 1  # texts at each evaluation, 0 = none
    sample_prompt: str = ""  # how they begin; empty: at the start of a document
    sample_tokens: int = 100  # their length at most
    sample_temperature: float = TEMPERATURE  # below 1: likelier tokens than the model would draw

    def __post_init__(self) -> None:
        if self.n_samples < 0:
            raise ValueError(f"n_samples is {self.n_samples}; expected 0 (none) or more")
        GenerationConfig(max_new_tokens=self.sample_tokens, temperature=self.sample_temperature)


@dataclass(frozen=True)
class SampleRecord:
    """One text of one step. `text` is what follows `prompt`."""

    step: int
    prompt: str
    text: str
    temperature: float


def check_samples(config: SampleConfig, tokenizer: Tokenizer) -> None:
    """ValueError if these samples cannot be begun with this tokenizer, so that it shows before a run and not in it."""
    if not config.n_samples:
        return
    if not config.sample_prompt and tokenizer.eos_id is None:
        raise ValueError(
            "tokenizer has no end-of-text token, with which a sample without a prompt would begin; give a --sample-prompt, or "
            "--num-samples 0"
        )
    try:
        encode_prompt(tokenizer, config.sample_prompt)
    except ValueError as error:
        raise ValueError(f"sample_prompt: {error}") from None


def write_samples(
    model: LanguageModel, tokenizer: Tokenizer, config: SampleConfig, *, step: int, seed: int
) -> Iterator[SampleRecord]:
    """The samples of this step, one after the other."""
    settings = GenerationConfig(max_new_tokens=config.sample_tokens, temperature=config.sample_temperature)
    prompt = config.sample_prompt.encode("utf-8", "replace").decode()  # bytes of a shell that are no UTF-8 as "?"
    for number in range(config.n_samples):
        rng = stream(seed, "sample", step, number)
        text = "".join(write_on(model, tokenizer, config.sample_prompt, config=settings, rng=rng))
        yield SampleRecord(step, prompt, text, config.sample_temperature)


def append_sample(run: Path, sample: SampleRecord) -> None:
    """Add a line to samples.jsonl."""
    append_line(run / FILE, {"event": "sample", **dataclasses.asdict(sample)})


def drop_samples_from(run: Path, step: int) -> None:
    """Forget the samples of `step` and later ones: the run is about to write them again."""
    keep_records(run / FILE, lambda record: record["step"] < step)
