"""The stages of quickstart: each says what it does and why, does it, and leaves a folder of its own.

    base/  tuned/  labels/  reward/  improved/       runs with their model/ and report.html (labels/: items and labels)
    model/  report.html                              the assistant, and what each stage was good for

A stage whose model is already there is loaded and not repeated; one that was stopped goes on at its last checkpoint.
"""

import contextlib
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinyllm.chat import ChatSettings
from tinyllm.data.conversations.preferences import Preference
from tinyllm.data.tasks.news import make_stories, story_prompt
from tinyllm.models import Model, ModelConfig, RewardModel, load_model, load_tokenizer_for, make_model
from tinyllm.recipes import compare
from tinyllm.recipes.demonstrations import encode_demonstrations, make_demonstrations
from tinyllm.recipes.events import Chapter, Said, Show, counting, silent, watched
from tinyllm.recipes.finetune import tune, write_held_out_answers
from tinyllm.recipes.improve import PolicyTraining, RLConfig
from tinyllm.recipes.label import label_stories
from tinyllm.recipes.plan import Plan
from tinyllm.recipes.pretrain import fresh_model, merging, train_model
from tinyllm.recipes.quickstart_page import write_page
from tinyllm.recipes.quickstart_results import kinds, table, write_results
from tinyllm.recipes.reward import finish_reward, prepare_comparisons, train_reward
from tinyllm.recipes.runs import finish_run, start_run
from tinyllm.recipes.samples import SampleConfig
from tinyllm.recipes.texts import DataConfig, Texts, Tokens, encode_texts, open_tokens, read_texts
from tinyllm.report.rl import write_rl_report
from tinyllm.storage import remove_leftovers, write_folder
from tinyllm.tokenizers import END_OF_TEXT, BPETokenizer, Tokenizer, load_tokenizer
from tinyllm.tokenizers.chat import CONTROL_TOKENS
from tinyllm.training import RunFolder, TrainConfig, estimate_memory

PROMPT = "The return value"  # the samples of pre-training go on from here
STAGES = ("base", "tuned", "reward", "improved")


@dataclass(frozen=True)
class Assistant:
    """What the journey gives: the assistant, what each step was good for, and questions that the assistant can answer."""

    folder: Path
    model: Model
    tokenizer: Tokenizer
    rows: list[compare.Row]
    questions: tuple[str, ...]


class Journey:
    """The state that goes from stage to stage. Call the stages in the order in which they stand here."""

    def __init__(self, out: Path, *, plan: Plan, show: Show = silent):
        self.out, self.plan, self.show = out, plan, show
        for folder in (out, out / "labels"):  # each run cleans its own
            remove_leftovers(folder)
        self.tokenizer: Tokenizer  # each is there once its stage is done
        self.base: Model
        self.tuned: Model
        self.improved: Model
        self.reward_model: RewardModel
        self.preferences: list[Preference] = []

    def say(self, text: str) -> None:
        """A line under the heading of the stage."""
        self.show(Said(text))

    def tell(self, number: int, title: str, why: str) -> None:
        """The heading of a stage, and why it is."""
        self.show(Chapter(number, title, why))

    def _finished(self, stage: str) -> bool:
        """Whether a stage of a resumed journey was done before; says so."""
        files = ("model/config.json", "report.html")  # each is the last that is written of its kind
        done = all((self.out / stage / file).exists() for file in files)
        if done:
            self.say(f"   (done before: {self.out / stage})")
        return done

    @contextlib.contextmanager
    def _run(self, stage: str, **settings: Any) -> Iterator[RunFolder]:
        """The run folder of a stage, new or resumed."""
        with start_run(self.out / stage, settings=settings, tokenizer=self.tokenizer, resume=True) as run:
            yield run

    # Before: a language model.

    def pretrain(self) -> None:
        """Stages 2 to 6: text, tokenizer, mixture, model, training on the next token."""
        if self._finished("base"):
            self.base, self.tokenizer = self._load("base")
            return
        texts = self._read_texts()
        self._learn_tokenizer(texts)
        config, training = self.plan.model(self.tokenizer.vocab_size), self._pretraining()
        samples = SampleConfig(sample_prompt=PROMPT, sample_tokens=60, sample_temperature=0.7)
        data = DataConfig(data=self.plan.data)
        with self._run("base", data=data, model=config, training=training, samples=samples) as run:
            tokens = self._encode(texts, training.n_tokens(config.block_size))
            self._describe(config, batch_size=training.batch_size)
            self.base = fresh_model(config, seed=self.plan.seed, batch_size=training.batch_size)
            n_vocab = config.vocab_size
            self.tell(
                6,
                "Pre-training",
                "The model guesses the next token at every place, is told the right one, and is moved a little "
                f"towards it, {training.max_steps:,} times. Guessing blindly among {n_vocab:,} tokens costs ln "
                f"{n_vocab:,} = {math.log(n_vocab):.2f} nats; watch the loss fall, and the samples turn from noise "
                "into words and then into the manner of the text. Ctrl-C saves, here and in every stage; tinyllm "
                f"quickstart --out {self.out} --resume goes on.",
            )
            records = train_model(self.base, tokens, tokenizer=self.tokenizer, config=training, samples=samples, run=run)
            watched(records, self.show, label="   training", total=training.max_steps)
            finish_run(run, self.base, self.tokenizer)

    def _pretraining(self) -> TrainConfig:
        """Settings of pre-training."""
        plan = self.plan
        every = max(1, plan.base_steps // 4)
        return TrainConfig(
            max_steps=plan.base_steps, batch_size=plan.base_batch, learning_rate=2e-3, min_learning_rate=1e-4,
            warmup_steps=50, eval_interval=every, eval_batches=8, checkpoint_interval=every, seed=plan.seed,
        )  # fmt: skip

    def _read_texts(self) -> Texts:
        self.tell(
            2,
            "The text",
            "A language model learns from text alone. Every Python carries some megabytes of it: the language "
            "reference, the docstrings of the standard library, and its source. A tenth of the documents is held "
            "out, to test the model on what it never saw.",
        )
        texts = read_texts(DataConfig(data=self.plan.data))
        for name, documents in texts.training.items():
            held_out = sum(map(len, texts.validation[name]))
            size = sum(map(len, documents))
            self.say(
                f"   {name:<11} {len(documents):>6,} documents  {size / 1e6:>5.2f} MB   and {held_out / 1e6:.2f} MB held out"
            )
        return texts

    def _learn_tokenizer(self, texts: Texts) -> None:
        n_merges = self.plan.vocab_size - 256 - 1 - len(CONTROL_TOKENS)
        self.tell(
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
            conversations = make_demonstrations(self.plan.n_tokenizer_conversations, seed=self.plan.seed)
            talk = [message["content"] for messages in conversations for message in messages]
            talk *= 4  # it is little beside the documents, and its names should become tokens of their own
            special = (END_OF_TEXT, *CONTROL_TOKENS)
            self.tokenizer = BPETokenizer.train(
                [*documents, *talk], vocab_size=self.plan.vocab_size, pattern="qwen2", special_tokens=special,
                progress=merging(self.show, "   merging"),
            )  # fmt: skip
        sentence = "The interpreter raises an unexpected exception."
        pieces = [self.tokenizer.decode([i]) for i in self.tokenizer.encode(sentence)]
        self.say(f"   {sentence!r} is now {len(pieces)} tokens instead of {len(sentence)} letters:\n   {'|'.join(pieces)}")

    def _encode(self, texts: Texts, n_tokens: int) -> Tokens:
        self.tell(
            4,
            "The mixture",
            "All documents become one long row of token ids for each source. Training draws windows from them by "
            "weight: more prose than code, since prose is what we want to read; epochs says how often each text will "
            "be seen.",
        )
        folder = self.out / "base" / "data"
        if not (folder / "sources.json").exists():
            n_documents = sum(len(documents) for side in (texts.training, texts.validation) for documents in side.values())
            report = counting(self.show, "   encoding", total=n_documents, unit="documents")
            encode_texts(texts, self.tokenizer, folder, progress=report)
        tokens = open_tokens(folder, self.tokenizer)
        self.say(textwrap.indent(tokens.mixture.table(n_tokens), "   "))
        return tokens

    def _load(self, stage: str) -> tuple[Model, Any]:
        folder = self.out / stage / "model"
        return load_model(folder), load_tokenizer_for(folder)

    # Step 1: demonstrations.

    def tune(self) -> None:
        """Stage 7: instruction tuning."""
        plan = self.plan
        self.tell(
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
        conversations = make_demonstrations(plan.n_demonstrations, seed=plan.seed)
        for message in conversations[0]:
            self.say(f"   {message['role'] + ':':<11} {message.get('tool_call') or message['content']}")
        every = max(1, plan.tuned_steps // 4)
        config = replace(
            self._tuning(plan.tuned_steps), batch_size=plan.tuned_batch, learning_rate=1.5e-3, eval_interval=every,
            eval_batches=32,
        )  # fmt: skip
        self.tuned = load_model(self.out / "base" / "model")
        with self._run("tuned", training=config) as run:
            block_size = self.tuned.config.block_size
            demonstrations = encode_demonstrations(conversations, self.tokenizer, block_size=block_size, config=config)
            records = tune(self.tuned, demonstrations, config=config, run=run, packing=False)
            watched(records, self.show, label="   tuning", total=config.max_steps)
            write_held_out_answers(self.tuned, demonstrations, self.tokenizer, run=run)
            ChatSettings(turns=1).save(run.path / "model")  # the demonstrations are single questions
            finish_run(run, self.tuned, self.tokenizer)

    def _tuning(self, steps: int) -> TrainConfig:
        """Settings of a stage after pre-training: down to nothing at the end, no decay of what was learned before."""
        return TrainConfig(
            max_steps=steps, min_learning_rate=0.0, weight_decay=0.0, warmup_steps=min(20, steps), eval_interval=0,
            checkpoint_interval=max(1, steps // 4), seed=self.plan.seed,
        )  # fmt: skip

    # Step 2: ranked answers, and a model of the labeler's taste.

    def label(self) -> None:
        """Stage 8: the simulated labeler rates five answers to each story."""
        n = self.plan.n_stories
        self.tell(
            8,
            "Step 2 of 3: ranked answers",
            f"The model summarises {n} stories five times each, and a labeler rates the summaries from 1 to 7. This "
            "one is simulated, with a known taste (all facts, nothing made up, short, polite, no bad words) and an "
            "unsteady hand, so that we shall know the truth; tinyllm label puts you in its place.",
        )
        stories = make_stories(n, split="train", seed=self.plan.seed + 2)
        folder, seed = self.out / "labels", self.plan.seed
        self.preferences, report = label_stories(self.tuned, self.tokenizer, stories, folder=folder, seed=seed)
        pair = self.preferences[0]
        self.say(
            f"   {pair.prompt[-1]['content']}\n   liked better   {pair.chosen}\n   than           {pair.rejected}\n   {report}"
        )

    def learn_reward(self) -> None:
        """Stage 9: the reward model."""
        self.tell(
            9,
            "The reward model",
            "A copy of the model, with a head that gives an answer one number, learns from each pair that the answer "
            "liked better should get the higher one. It can then rate any number of answers, which no person could.",
        )
        if self._finished("reward"):
            self.reward_model = RewardModel.from_pretrained(self.out / "reward" / "model")
            return
        block_size = self.tuned.config.block_size
        comparisons = prepare_comparisons(self.preferences, self.tokenizer, block_size=block_size, seed=self.plan.seed)
        steps = comparisons.steps_per_epoch(8)
        config = replace(self._tuning(steps), batch_size=8, learning_rate=5e-4)
        with self._run("reward", training=config) as run:
            task = train_reward(self.tuned, comparisons, config=config, run=run)
            watched(task.records, self.show, label="   learning", total=steps)
            accuracy, error = task.finish()
            self.reward_model = task.model
            finish_reward(task.model, comparisons, self.tokenizer, run=run)
        self.say(f"   On stories held out, it decides {accuracy:.1%} ± {error:.1%} of the pairs as the labeler did.")

    # Step 3: reinforcement learning.

    def improve(self) -> None:
        """Stage 10: PPO."""
        self.tell(
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
        self.improved = load_model(self.out / "tuned" / "model")
        rl_config = RLConfig()
        config = replace(
            self._tuning(self.plan.improved_steps), learning_rate=3e-4, min_learning_rate=3e-5, warmup_steps=4, epsilon=1e-5
        )
        stories = make_stories(2000, split="train", seed=self.plan.seed + 3)
        conversations = [story_prompt(story) for story in stories]
        with self._run("improved", training=config, rl=rl_config, inputs={"method": "ppo"}) as run:
            task = PolicyTraining(self.improved, self.reward_model, conversations, tokenizer=self.tokenizer, stories=stories)
            records = task.records("ppo", config=config, rl_config=rl_config, run=run)
            shown = {"score": "score", "gold": "gold", "kl": "kl", "length": "length"}
            watched(records, self.show, label="   improving", total=config.max_steps, metrics=shown)
            ChatSettings(turns=1).save(run.path / "model")
            self.improved.save_pretrained(run.path / "model", self.tokenizer)
            task.write_comparisons(run.path)
            write_rl_report(run.path)

    # After: was it worth it?

    def compare(self) -> Assistant:
        """Stage 11: four models on the same test set; the assistant's folder and the page of the journey."""
        plan = self.plan
        self.tell(
            11,
            "What each step was good for",
            f"Four models on the same {plan.n_test} tasks (other contents and other phrasings than in training) and "
            f"{plan.n_test} stories (other combinations). Best of {plan.best_of}: the tuned model writes {plan.best_of} "
            "summaries and the reward model picks one.",
        )
        stories = make_stories(plan.n_test, split="test", seed=plan.seed + 4)
        instructions = compare.make_test(plan.n_test, seed=plan.seed)
        test = compare.TestSet(self.tokenizer, self.reward_model, instructions, stories, seed=plan.seed)
        models = {"base": self.base, "tuned (SFT)": self.tuned, f"SFT, best of {plan.best_of}": self.tuned, "PPO": self.improved}
        rows: list[compare.Row] = []
        report = counting(self.show, "   asking", total=len(models), unit="models")
        for name, model in models.items():
            best = "best" in name
            rows.append(compare.evaluate(name, model, test, best_of=plan.best_of if best else 1, same=rows[1] if best else None))
            report(len(rows))
        self.say(textwrap.indent(table(rows), "   "))
        self.say(f"\n   The assistant, by kind of task: {kinds(rows[-1])}.")
        suggested = compare.suggestions(rows[-1], self.improved, self.tokenizer, seed=plan.seed)
        questions = tuple(one.prompt[-1]["content"] for one in suggested)
        write_results(self.out, rows, suggested)
        if not (self.out / "model").exists():
            with write_folder(self.out / "model") as temporary:
                self.improved.save_pretrained(temporary / "assistant", self.tokenizer)
                ChatSettings(turns=1, questions=questions).save(temporary / "assistant")
                for file in (temporary / "assistant").iterdir():
                    file.rename(temporary / file.name)
                (temporary / "assistant").rmdir()
        write_page(self.out, rows, stories)
        return Assistant(self.out, self.improved, self.tokenizer, rows, questions)

    def _describe(self, config: ModelConfig, *, batch_size: int) -> None:
        memory, n_weights = (
            estimate_memory(make_model(config, rng=None), batch_size=batch_size).total,
            make_model(config, rng=None).num_parameters(),
        )
        self.tell(
            5,
            "The model",
            f"A GPT: {config.n_layers} layers in which tokens first look at the tokens before them (attention, "
            f"{config.n_heads} heads), then think for themselves (feed-forward). It is GPT-2 in small: "
            f"{n_weights:,} weights instead of 124 million, in about {memory / 1e6:.0f} MB of memory while "
            f"training, and a context of {config.block_size} tokens.",
        )
