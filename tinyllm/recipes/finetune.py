"""Instruction tuning, InstructGPT's first step: a model that continues text learns to answer (Ouyang et al. 2022, section 3.5).

    done = finetune("runs/mine", ["chats.jsonl"], out="runs/chat")
    tinyllm.load(done.folder).chat("What is tea?")

It reads whole conversations and learns what the assistant says in them, and only that. With a LoRA rank only small matrices
beside the frozen weights are trained; they are kept in adapters/, and merged in model/.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tinyllm.chat import ChatSettings
from tinyllm.data import BatchSource, PackedConversations, PaddedConversations, conversation_batches
from tinyllm.evaluation.held_out_answers import answer_held_out, write_answers
from tinyllm.finetuning import answer_loss
from tinyllm.models import Model, save_adapters
from tinyllm.nn.lora import add_lora, has_lora, merge_lora
from tinyllm.recipes.demonstrations import Demonstrations, encode_demonstrations, read_demonstrations
from tinyllm.recipes.events import Record, Said, Show, silent, watched
from tinyllm.recipes.inputs import MODEL, Input
from tinyllm.recipes.runs import TrainedModel, finish_run
from tinyllm.recipes.tuning import TUNING, ReadingConfig, begin, load_for_chat, refuse_too_large, tuning_run
from tinyllm.storage.fields import check_number, check_whole
from tinyllm.tokenizers import Tokenizer
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.training import RunFolder, TrainConfig, train
from tinyllm.training.streams import stream

INPUTS = (MODEL, Input("data", "FILE", "files", required=False))
# Adapters begin at 0 and are few: they want ten times the steps.
LORA_TRAINING = replace(TUNING, learning_rate=10 * TUNING.learning_rate, min_learning_rate=10 * TUNING.min_learning_rate)


@dataclass(frozen=True)
class FinetuneConfig:
    """What to learn from, and which weights may move."""

    n_made: int = 20_000  # questions and answers to make, where no data are given
    packing: bool = True  # several conversations a row; no = one a row, padded
    validation_fraction: float = 0.05  # part of the conversations that is held out
    lora_rank: int = 0  # r of LoRA, 0 = all weights are trained
    lora_alpha: float = 16.0  # α of LoRA

    def __post_init__(self) -> None:
        check_whole(self, "n_made", low=2, hint=": one to learn from and one to hold out")
        check_number(self, "validation_fraction", above=0, below=1)
        check_whole(self, "lora_rank", low=0)


@dataclass(frozen=True)
class FinetuneSettings:
    """All settings of a run of `finetune`. With a LoRA rank give training=LORA_TRAINING, or another rate that suits adapters."""

    finetuning: FinetuneConfig = field(default_factory=FinetuneConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    training: TrainConfig = TUNING


def finetune(
    model: str | Path | None = None, data: Sequence[str] = (), *, out: str | Path, settings: FinetuneSettings | None = None,
    resume: bool = False, show: Show = silent,
) -> TrainedModel:  # fmt: skip
    """Teach a model to answer, from the conversations in the files `data` (none: made questions with exact answers).

    The folder `out` gets model/, report.html with answers to held-out questions, and adapters/ if LoRA was asked for.
    resume  go on with the run in `out`, to the bit; model and data are then its own
    """
    settings = settings or FinetuneSettings()
    config, training = settings.finetuning, settings.training
    start = begin(INPUTS, {"model": model, "data": data}, out=out, resume=resume, show=show)
    policy, tokenizer = load_for_chat(str(start.folder("model")), seed=training.seed)
    demonstrations = demonstrations_of(start.files("data"), settings, tokenizer, block_size=policy.config.block_size, show=show)
    if demonstrations.left_out:
        show(Said(f"Left out: {demonstrations.left_out}"))
    if config.lora_rank:
        add_lora(policy, rank=config.lora_rank, alpha=config.lora_alpha, rng=stream(training.seed, "adapters"))
    refuse_too_large(policy, rows=min(training.batch_size, demonstrations.n))
    n_trained = sum(weight.size for weight in policy.parameters())
    show(Said(f"Model: {policy.num_parameters():,} parameters, {n_trained:,} of them trained"))
    with tuning_run(start, vars(settings), tokenizer=tokenizer) as run:
        records = tune(policy, demonstrations, config=training, run=run, packing=config.packing)
        last = watched(records, show, label="finetuning", total=training.max_steps)
        write_held_out_answers(policy, demonstrations, tokenizer, run=run)
        if has_lora(policy):
            save_adapters(policy, run.path / "adapters")
            merge_lora(policy)
        if not start.files("data"):
            ChatSettings(turns=1).save(run.path / "model")  # the made questions stand alone
        finish_run(run, policy, tokenizer)
    return TrainedModel(start.out, policy, tokenizer, last)


def demonstrations_of(
    files: Sequence[str], settings: FinetuneSettings, tokenizer: Tokenizer, *, block_size: int, show: Show = silent
) -> Demonstrations:
    """The conversations of a run with these settings as ids: those it learns from, and those it holds out."""
    config, training = settings.finetuning, settings.training
    roles = settings.reading.roles
    conversations = read_demonstrations(files, roles=roles, n_made=config.n_made, seed=training.seed, show=show)
    return encode_demonstrations(
        conversations, tokenizer, block_size=block_size, config=training, validation_fraction=config.validation_fraction
    )


def tune(
    model: Model, demonstrations: Demonstrations, *, config: TrainConfig, run: RunFolder, packing: bool = True
) -> Iterator[Record]:
    """Trains `model` on what the assistant says; yields the records."""
    batch_size, block_size = config.batch_size, model.config.block_size
    rng = stream(config.seed, "order of conversations")
    kind = PackedConversations if packing else PaddedConversations
    source: BatchSource = kind(demonstrations.training, batch_size=batch_size, block_size=block_size, rng=rng)
    evaluation = conversation_batches(demonstrations.held_out, batch_size=batch_size, block_size=block_size)
    yield from train(model, source, config=config, loss_fn=answer_loss, evaluation=evaluation, run=run)


def write_held_out_answers(model: Model, demonstrations: Demonstrations, tokenizer: Tokenizer, *, run: RunFolder) -> None:
    """Let the tuned model answer what was held out, for the run's report."""
    write_answers(run.path, answer_held_out(model, demonstrations.held_out, chat=ChatFormat(tokenizer)))
