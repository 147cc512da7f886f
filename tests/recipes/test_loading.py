"""tinyllm.load: one way in from Python, for every kind of folder that a run leaves."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

import tinyllm
from tinyllm.chat import ChatSettings
from tinyllm.decoding import generate_text
from tinyllm.decoding.config import TEMPERATURE
from tinyllm.models import GPT, GPTConfig, RewardModel, SequenceClassifier
from tinyllm.recipes import LoadedModel, LoadedRewardModel
from tinyllm.rlhf.reward_model import score_sequences
from tinyllm.rlhf.sequences import pad_sequences
from tinyllm.storage import FormatError
from tinyllm.tokenizers import END_OF_TEXT, ByteTokenizer
from tinyllm.tokenizers.chat import CONTROL_TOKENS, ChatFormat

TOKENIZER = ByteTokenizer(special_tokens=(END_OF_TEXT, *CONTROL_TOKENS))
SHAPE = GPTConfig(TOKENIZER.vocab_size, block_size=48, n_layers=1, n_heads=2, d_model=16)
QUESTION = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def model():
    return GPT(SHAPE, rng=np.random.default_rng(3))


@pytest.fixture(scope="module")
def journey(tmp_path_factory, model):
    """A folder as quickstart leaves it: model/, a language model's stage, and the reward model's."""
    out = tmp_path_factory.mktemp("journey")
    for stage in ("model", "tuned/model"):
        model.save_pretrained(out / stage, TOKENIZER)
    judge = RewardModel(model, rng=np.random.default_rng(4))
    judge.gain.assign(np.float32([2.0]))
    judge.save_pretrained(out / "reward" / "model", TOKENIZER)
    return out


@pytest.mark.parametrize("place", ["", "model", "tuned", "tuned/model"])
def test_a_run_a_stage_and_a_models_folder_are_loaded(journey, model, place):
    llm = tinyllm.load(journey / place)
    assert isinstance(llm, LoadedModel) and llm.tokenizer.fingerprint() == TOKENIZER.fingerprint()
    tokens = np.arange(12)[None]
    assert np.array_equal(llm.model(tokens).data, model(tokens).data)


def test_generate_gives_the_text_that_follows_also_beyond_the_context(journey, model):
    llm = tinyllm.load(str(journey))
    expected = generate_text(model, TOKENIZER, "The", temperature=0, max_new_tokens=20)
    assert llm.generate("The", temperature=0, max_new_tokens=20) == expected
    long = llm.generate("The", temperature=0, max_new_tokens=120)
    assert long.startswith(expected)
    assert llm.generate(temperature=0, max_new_tokens=5) == generate_text(model, TOKENIZER, "", temperature=0, max_new_tokens=5)


def test_one_seed_one_text_and_two_calls_draw_on(journey):
    first, second = (tinyllm.load(journey, seed=5) for _ in range(2))
    texts = [first.generate("A", max_new_tokens=30) for _ in range(2)]
    assert texts == [second.generate("A", max_new_tokens=30) for _ in range(2)] and texts[0] != texts[1]
    assert tinyllm.load(journey, seed=6).generate("A", max_new_tokens=30) != texts[0]


def test_the_temperature_is_that_of_every_command_and_beam_search_takes_none(journey, model):
    llm, same = (tinyllm.load(journey, seed=9) for _ in range(2))
    assert llm.generate("A", max_new_tokens=20) == same.generate("A", max_new_tokens=20, temperature=TEMPERATURE)
    assert llm.generate("A", max_new_tokens=20) != same.generate("A", max_new_tokens=20, temperature=1.5)
    expected = generate_text(model, TOKENIZER, "A", max_new_tokens=5, n_beams=2)
    assert llm.generate("A", max_new_tokens=5, n_beams=2) == expected


def test_chat_answers_a_conversation_or_a_message_and_gives_what_to_append(journey):
    llm = tinyllm.load(journey)
    answer = llm.chat(QUESTION, temperature=0, max_new_tokens=6)
    assert answer.messages[-1] == {"role": "assistant", "content": answer.text}
    assert llm.chat("Hi", temperature=0, max_new_tokens=6) == answer
    more = [*QUESTION, *answer.messages, {"role": "user", "content": "And you?"}]
    assert isinstance(llm.chat(more, temperature=0, max_new_tokens=4).text, str)


def test_chat_gives_the_model_as_many_turns_as_it_learned_from(tmp_path, model):
    model.save_pretrained(tmp_path, TOKENIZER)
    ChatSettings(turns=1).save(tmp_path)
    llm = tinyllm.load(tmp_path)
    long = [*QUESTION, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "And you?"}]
    settings = {"temperature": 0, "max_new_tokens": 8}
    assert llm.turns == 1 and llm.chat(long, **settings) == llm.chat("And you?", **settings)
    with pytest.raises(ValueError, match=r"messages\[0\]: got 'Hi', expected a dict"):
        llm.chat(["Hi"])
    (tmp_path / "chat.json").unlink()
    assert tinyllm.load(tmp_path).turns is None


def log_prob(model, before, ids):
    """Σ log p of `ids` after `before`, straight from the definition, in float64."""
    logits = model(np.array([[*before, *ids]])[:, :-1]).data[0].astype(np.float64)
    log_probs = (
        logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True)) - logits.max(1, keepdims=True)
    )
    return sum(log_probs[len(before) - 1 + t, token] for t, token in enumerate(ids))


def test_score_is_the_log_probability_of_the_text_after_what_stands_before(journey, model):
    llm = tinyllm.load(journey)
    start, form = TOKENIZER.eos_id, ChatFormat(TOKENIZER)
    assert math.isclose(llm.score("abc"), log_prob(model, [start], list(b"abc")), rel_tol=1e-5)
    assert math.isclose(llm.score("bc", after="a"), log_prob(model, list(b"a"), list(b"bc")), rel_tol=1e-5)
    answer = log_prob(model, form.prompt(QUESTION), [*b"Yes", form.end_id])  # that it ends there is part of an answer
    assert math.isclose(llm.score("Yes", after=QUESTION), answer, rel_tol=1e-5)
    parts = llm.score("ab") + llm.score("c", after="")  # no shortcut: the second part has lost what stood before it
    assert parts != llm.score("abc")


def test_the_reward_models_stage_scores_answers_and_writes_none(journey):
    judge = tinyllm.load(journey / "reward")
    assert isinstance(judge, LoadedRewardModel) and not hasattr(judge, "generate") and not hasattr(judge, "chat")
    form = ChatFormat(TOKENIZER)
    expected = score_sequences(judge.model, pad_sequences([form.prompt(QUESTION)], [form.answer("Yes")]))[0]
    assert judge.score("Yes", after=QUESTION) == judge.score("Yes", after="Hi") == float(expected) != 0


def test_what_cannot_be_loaded_is_refused_in_words(tmp_path, model):
    with pytest.raises(ValueError, match="nowhere does not exist; give a model's folder or a run's"):
        tinyllm.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no model"):
        tinyllm.load(tmp_path)
    SequenceClassifier(model, 3, rng=np.random.default_rng(0)).save_pretrained(tmp_path / "classes", TOKENIZER)
    with pytest.raises(FormatError, match="num_labels|score"):
        tinyllm.load(tmp_path / "classes")
    model.save_pretrained(tmp_path / "whole", TOKENIZER)
    (tmp_path / "whole" / "tokenizer.json").write_text(json.dumps({"model": {}}))
    with pytest.raises(FormatError, match="tokenizer.json"):
        tinyllm.load(tmp_path / "whole")


@pytest.mark.parametrize("seed", [-1, 1.5, "7", True, None])
def test_a_seed_that_is_none_is_refused(journey, seed):
    with pytest.raises(ValueError, match="seed is .*expected a whole number, 0 or more"):
        tinyllm.load(journey, seed=seed)


def test_bad_requests_name_the_argument(journey):
    llm = tinyllm.load(journey)
    with pytest.raises(ValueError, match="temprature is not a generation setting; did you mean temperature"):
        llm.generate("a", temprature=1)
    with pytest.raises(ValueError, match="messages: the last one is of role 'assistant'"):
        llm.chat([*QUESTION, {"role": "assistant", "content": "Hello"}])
    with pytest.raises(ValueError, match="text is ''; expected some text to score"):
        llm.score("")
    with pytest.raises(ValueError, match="text: 50 tokens after 1 are more than the model's context of 48 holds"):
        llm.score("x" * 50)


def test_load_is_found_without_loading_numpy():
    code = "import sys, tinyllm; assert 'numpy' not in sys.modules; print(tinyllm.load.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("tinyllm.recipes.loading", 0), done.stderr
    assert "load" in tinyllm.__all__
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        getattr(tinyllm, "lode")  # noqa: B009
