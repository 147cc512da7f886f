"""The stages of `tinyllm quickstart`: each says what it does and why, does it, and leaves a folder of its own.

    base/  tuned/  labels/  reward/  improved/       runs with their model/ and report.html (labels/: items and labels)
    model/  report.html                              the assistant, and what each stage was good for

A stage whose model is already there is loaded and not repeated; one that was stopped goes on at its last checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinyllm.chat import ChatSettings
from tinyllm.cli import quickstart
from tinyllm.cli.progress import Progress
from tinyllm.cli.quickstart import tell
from tinyllm.cli.resuming import resumable
from tinyllm.cli.tuning import show_records
from tinyllm.data.conversations.preferences import Preference
from tinyllm.models import GPT, GPTConfig, RewardModel, load_tokenizer_for
from tinyllm.recipes import assistant
from tinyllm.recipes import improve as improvement
from tinyllm.recipes import pretrain as stages
from tinyllm.recipes.journey_page import write_page
from tinyllm.recipes.journey_results import kinds, table, write_results
from tinyllm.recipes.news_task import make_stories
from tinyllm.recipes.plan import Plan
from tinyllm.report.rl import write_rl_report
from tinyllm.storage import remove_leftovers, write_folder
from tinyllm.tokenizers import END_OF_TEXT, BPETokenizer, load_tokenizer
from tinyllm.tokenizers.chat import CONTROL_TOKENS
from tinyllm.training import TrainConfig

PROMPT = "The return value"  # the samples of pre-training go on from here


class Journey:
    """The state that goes from stage to stage. Call the stages in the order in which they stand here."""

    def __init__(self, out: Path, *, plan: Plan):
        self.out, self.plan = out, plan
        for folder in (out, out / "labels"):  # each run cleans its own
            remove_leftovers(folder)
        self.tokenizer: Any = None
        self.base: Any = None
        self.tuned: Any = None
        self.improved: Any = None
        self.reward_model: Any = None
        self.preferences: list[Preference] = []
        self.questions: list[str] = []  # that the assistant can answer, one of a task

    def _finished(self, stage: str) -> bool:
        """Whether a stage of a resumed journey was done before; says so."""
        files = ("model/config.json", "report.html")  # each is the last that is written of its kind
        done = all((self.out / stage / file).exists() for file in files)
        if done:
            print(f"   (done before: {self.out / stage})")
        return done

    @contextlib.contextmanager
    def _run(self, stage: str, **settings: Any) -> Iterator[Any]:
        """The run folder of a stage, new or resumed."""
        folder = self.out / stage
        with (
            resumable("quickstart", self.out, run=folder),
            stages.start_run(folder, settings=settings, tokenizer=self.tokenizer, resume=True) as run,
        ):
            yield run

    # Before: a language model.

    def pretrain(self) -> None:
        """Stages 2 to 6: text, tokenizer, mixture, model, training on the next token."""
        if self._finished("base"):
            self.base, self.tokenizer = self._load("base")
            return
        from tinyllm.recipes.samples import SampleConfig

        texts = self._read_texts()
        self._learn_tokenizer(texts)
        config, training = self.plan.model(self.tokenizer.vocab_size), self._pretraining()
        samples = SampleConfig(sample_prompt=PROMPT, sample_tokens=60, sample_temperature=0.7)
        data = stages.DataConfig(data=self.plan.data)
        settings = {"data": data, "model": config, "training": training, "samples": samples}
        with self._run("base", **settings) as run:
            tokens = self._encode(texts, training.n_tokens(config.block_size))
            _describe_model(config, batch_size=training.batch_size)
            self.base = stages.make_model(config, seed=self.plan.seed, batch_size=training.batch_size)
            n_vocab = config.vocab_size
            tell(
                6,
                "Pre-training",
                "The model guesses the next token at every place, is told the right one, and is moved a little "
                f"towards it, {training.max_steps:,} times. Guessing blindly among {n_vocab:,} tokens costs ln "
                f"{n_vocab:,} = {math.log(n_vocab):.2f} nats; watch the loss fall, and the samples turn from noise "
                "into words and then into the manner of the text. Ctrl-C saves, here and in every stage; tinyllm "
                f"quickstart --out {self.out} --resume goes on.",
            )
            with Progress("   training", training.max_steps, unit="steps") as progress:
                records = stages.train_model(
                    self.base, tokens, tokenizer=self.tokenizer, config=training, samples=samples, run=run
                )
                stages.show_training(records, progress=progress)
            stages.finish_run(run, self.base, self.tokenizer)

    def _pretraining(self) -> TrainConfig:
        """Settings of pre-training."""
        plan = self.plan
        every = max(1, plan.base_steps // 4)
        return TrainConfig(
            max_steps=plan.base_steps, batch_size=plan.base_batch, learning_rate=2e-3, min_learning_rate=1e-4,
            warmup_steps=50, eval_interval=every, eval_batches=8, checkpoint_interval=every, seed=plan.seed,
        )  # fmt: skip

    def _read_texts(self) -> Any:
        tell(
            2,
            "The text",
            "A language model learns from text alone. Every Python carries some megabytes of it: the language "
            "reference, the docstrings of the standard library, and its source. A tenth of the documents is held "
            "out, to test the model on what it never saw.",
        )
        texts = stages.read_texts(stages.DataConfig(data=self.plan.data))
        for name, documents in texts.training.items():
            held_out = sum(map(len, texts.validation[name]))
            size = sum(map(len, documents))
            print(f"   {name:<11} {len(documents):>6,} documents  {size / 1e6:>5.2f} MB   and {held_out / 1e6:.2f} MB held out")
        return texts

    def _learn_tokenizer(self, texts: Any) -> None:
        n_merges = self.plan.vocab_size - 256 - 1 - len(CONTROL_TOKENS)
        tell(
            3,
            "The tokenizer",
            "The model will not read letters but tokens: frequent pieces of text, found by merging the most frequent "
            f"pair of neighbours again and again, {n_merges:,} times (byte-pair encoding). {len(CONTROL_TOKENS)} more "
            "are set aside for later: they say who speaks in a conversation.",
        )
        saved = self.out / "base" / "tokenizer"
        if (saved / "tokenizer.json").exists():
            self.tokenizer = load_tokenizer(saved)
        else:
            documents = [text for part in texts.training.values() for text in part]
            conversations = assistant.make_demonstrations(self.plan.n_tokenizer_conversations, seed=self.plan.seed)
            talk = [message["content"] for messages in conversations for message in messages]
            talk *= 4  # it is little beside the documents, and its names should become tokens of their own
            special = (END_OF_TEXT, *CONTROL_TOKENS)
            with Progress("   merging", self.plan.vocab_size, unit="tokens") as progress:
                self.tokenizer = BPETokenizer.train(
                    [*documents, *talk], vocab_size=self.plan.vocab_size, pattern="qwen2", special_tokens=special,
                    progress=quickstart.merging(progress),
                )  # fmt: skip
        sentence = "The interpreter raises an unexpected exception."
        pieces = [self.tokenizer.decode([i]) for i in self.tokenizer.encode(sentence)]
        print(f"   {sentence!r} is now {len(pieces)} tokens instead of {len(sentence)} letters:\n   {'|'.join(pieces)}")

    def _encode(self, texts: Any, n_tokens: int) -> Any:
        tell(
            4,
            "The mixture",
            "All documents become one long row of token ids for each source. Training draws windows from them by "
            "weight: more prose than code, since prose is what we want to read; epochs says how often each text will "
            "be seen.",
        )
        folder = self.out / "base" / "data"
        if not (folder / "sources.json").exists():
            n_documents = sum(len(documents) for side in (texts.training, texts.validation) for documents in side.values())
            with Progress("   encoding", n_documents, unit="documents") as progress:
                stages.encode_texts(texts, self.tokenizer, folder, progress=progress.show)
        tokens = stages.open_tokens(folder, self.tokenizer)
        print(textwrap.indent(tokens.mixture.table(n_tokens), "   "))
        return tokens

    def _load(self, stage: str) -> tuple[GPT, Any]:
        folder = self.out / stage / "model"
        return GPT.from_pretrained(folder), load_tokenizer_for(folder)

    # Step 1: demonstrations.

    def tune(self) -> None:
        """Stage 7: instruction tuning."""
        plan = self.plan
        tell(
            7,
            "Step 1 of 3: demonstrations",
            "So far the model continues text; asked a question it may go on with more questions. Now it reads "
            f"{plan.n_demonstrations:,} conversations and learns what the assistant says in them, and only that: "
            "sums, for which it calls a calculator, spelling, sorting, facts to be found in a sentence, greetings, and to "
            "say that it does not know all the rest. These have exact answers. Summaries of small news are of mixed "
            "quality, as people's are.",
        )
        if self._finished("tuned"):
            self.tuned = self._load("tuned")[0]
            return
        conversations = assistant.make_demonstrations(plan.n_demonstrations, seed=plan.seed)
        for message in conversations[0]:
            print(f"   {message['role'] + ':':<11} {message.get('tool_call') or message['content']}")
        every = max(1, plan.tuned_steps // 4)
        pace = {"batch_size": plan.tuned_batch, "learning_rate": 1.5e-3, "eval_interval": every, "eval_batches": 32}
        config = self._tuning(plan.tuned_steps, **pace)
        self.tuned = GPT.from_pretrained(self.out / "base" / "model")
        with self._run("tuned", training=config) as run:
            shape = {"block_size": self.tuned.config.block_size, "config": config}
            demonstrations = assistant.encode_demonstrations(conversations, self.tokenizer, **shape)
            records = assistant.tune(self.tuned, demonstrations, config=config, run=run, packing=False)
            show_records(records, label="   tuning", total=config.max_steps, shown={})
            assistant.write_held_out_answers(self.tuned, demonstrations, self.tokenizer, run=run)
            ChatSettings(turns=1).save(run.path / "model")  # the demonstrations are single questions
            stages.finish_run(run, self.tuned, self.tokenizer)

    def _tuning(self, steps: int, **settings: Any) -> TrainConfig:
        """Settings of a stage after pre-training: down to nothing at the end, no decay of what was learned before."""
        shared = {"min_learning_rate": 0.0, "weight_decay": 0.0, "warmup_steps": min(20, steps), "seed": self.plan.seed}
        every = max(1, steps // 4)
        return TrainConfig(max_steps=steps, **{"eval_interval": 0, "checkpoint_interval": every, **shared, **settings})

    # Step 2: ranked answers, and a model of the labeler's taste.

    def label(self) -> None:
        """Stage 8: the simulated labeler rates five answers to each story."""
        n = self.plan.n_stories
        tell(
            8,
            "Step 2 of 3: ranked answers",
            f"The model summarises {n} stories five times each, and a labeler rates the summaries from 1 to 7. This "
            "one is simulated, with a known taste (all facts, nothing made up, short, polite, no bad words) and an "
            "unsteady hand, so that we shall know the truth; tinyllm label puts you in its place.",
        )
        stories = make_stories(n, split="train", seed=self.plan.seed + 2)
        where: dict[str, Any] = {"folder": self.out / "labels", "seed": self.plan.seed}
        self.preferences, report = assistant.label_stories(self.tuned, self.tokenizer, stories, **where)
        pair = self.preferences[0]
        print(f"   {pair.prompt[-1]['content']}\n   liked better   {pair.chosen}\n   than           {pair.rejected}\n   {report}")

    def learn_reward(self) -> None:
        """Stage 9: the reward model."""
        tell(
            9,
            "The reward model",
            "A copy of the model, with a head that gives an answer one number, learns from each pair that the answer "
            "liked better should get the higher one. It can then rate any number of answers, which no person could.",
        )
        if self._finished("reward"):
            self.reward_model = RewardModel.from_pretrained(self.out / "reward" / "model")
            return
        shape = {"block_size": self.tuned.config.block_size, "seed": self.plan.seed}
        comparisons = assistant.prepare_comparisons(self.preferences, self.tokenizer, **shape)
        steps = comparisons.steps_per_epoch(8)
        config = self._tuning(steps, batch_size=8, learning_rate=5e-4)
        with self._run("reward", training=config) as run:
            task = assistant.train_reward(self.tuned, comparisons, config=config, run=run)
            show_records(task.records, label="   learning", total=steps, shown={})
            accuracy, error = task.finish()
            self.reward_model = task.model
            assistant.finish_reward(task.model, comparisons, self.tokenizer, run=run)
        print(f"   On stories held out, it decides {accuracy:.1%} ± {error:.1%} of the pairs as the labeler did.")

    # Step 3: reinforcement learning.

    def improve(self) -> None:
        """Stage 10: PPO."""
        tell(
            10,
            "Step 3 of 3: PPO",
            f"{self.plan.n_rollouts} times the model writes 64 summaries, the reward model scores them, and what scored better "
            "than expected becomes likelier. kl is how far it has gone from where it began, in nats per answer: each "
            "has its price, for far away the reward model no longer knows what is good. gold is the labeler's true "
            "opinion, which the model never sees.",
        )
        if self._finished("improved"):
            self.improved = self._load("improved")[0]
            return
        self.improved = GPT.from_pretrained(self.out / "tuned" / "model")
        rl_config = improvement.RLConfig()
        config = self._tuning(self.plan.improved_steps, learning_rate=3e-4, min_learning_rate=3e-5, warmup_steps=4, epsilon=1e-5)
        stories = make_stories(2000, split="train", seed=self.plan.seed + 3)
        conversations = [assistant.story_prompt(story) for story in stories]
        with self._run("improved", training=config, rl=rl_config, inputs={"method": "ppo"}) as run:
            task = improvement.Improvement(
                self.improved, self.reward_model, conversations, tokenizer=self.tokenizer, stories=stories
            )
            records = task.records("ppo", config=config, rl_config=rl_config, run=run)
            shown = {"score": "score", "gold": "gold", "kl": "kl", "length": "length"}
            show_records(records, label="   improving", total=config.max_steps, shown=shown)
            ChatSettings(turns=1).save(run.path / "model")
            self.improved.save_pretrained(run.path / "model", self.tokenizer)
            task.write_comparisons(run.path)
            write_rl_report(run.path)

    # After: was it worth it?

    def compare(self) -> None:
        """Stage 11: four models on the same test set; the assistant's folder and the page of the journey."""
        plan = self.plan
        tell(
            11,
            "What each step was good for",
            f"Four models on the same {plan.n_test} tasks (other contents and other phrasings than in training) and "
            f"{plan.n_test} stories (other combinations). Best of {plan.best_of}: the tuned model writes {plan.best_of} "
            "summaries and the reward model picks one.",
        )
        stories = make_stories(plan.n_test, split="test", seed=plan.seed + 4)
        instructions = assistant.make_test(plan.n_test, seed=plan.seed)
        test = assistant.TestSet(self.tokenizer, self.reward_model, instructions, stories, seed=plan.seed)
        models = {"base": self.base, "tuned (SFT)": self.tuned, f"SFT, best of {plan.best_of}": self.tuned, "PPO": self.improved}
        rows: list[assistant.Row] = []
        with Progress("   asking", len(models), unit="models") as progress:
            for name, model in models.items():
                again: dict[str, Any] = {"best_of": plan.best_of, "same": rows[1]} if "best" in name else {}
                rows.append(assistant.evaluate(name, model, test, **again))
                progress.show(len(rows))
        print(textwrap.indent(table(rows), "   "))
        print(f"\n   The assistant, by kind of task: {kinds(rows[-1])}.")
        suggested = assistant.suggestions(rows[-1], self.improved, self.tokenizer, seed=plan.seed)
        self.questions = [one.prompt[-1]["content"] for one in suggested]
        write_results(self.out, rows, suggested)
        if not (self.out / "model").exists():
            with write_folder(self.out / "model") as temporary:
                self.improved.save_pretrained(temporary / "assistant", self.tokenizer)
                ChatSettings(turns=1, questions=tuple(self.questions)).save(temporary / "assistant")
                for file in (temporary / "assistant").iterdir():
                    file.rename(temporary / file.name)
                (temporary / "assistant").rmdir()
        write_page(self.out, rows, stories)


def _describe_model(config: GPTConfig, *, batch_size: int) -> None:
    from tinyllm.training import estimate_memory

    memory = estimate_memory(config, batch_size=batch_size).total
    tell(
        5,
        "The model",
        f"A GPT: {config.n_layers} layers in which tokens first look at the tokens before them (attention, "
        f"{config.n_heads} heads), then think for themselves (feed-forward). It is GPT-2 in small: "
        f"{config.num_parameters():,} weights instead of 124 million, in about {memory / 1e6:.0f} MB of memory while "
        f"training, and a context of {config.block_size} tokens.",
    )
