"""Facts about exact match: replies are judged, tools are run, and conversations of any length go through in batches."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from tinyllm import Tensor
from tinyllm.chat.calculator import calculate
from tinyllm.data.tasks.instructions import Instruction, make_instructions
from tinyllm.evaluation.exact_match import ExactMatch, answer_all, measure_exact_match
from tinyllm.models import GPT, GPTConfig
from tinyllm.tokenizers import END_OF_TEXT, BPETokenizer
from tinyllm.tokenizers.chat import CONTROL_TOKENS, ChatFormat

SPECIAL = (END_OF_TEXT, *CONTROL_TOKENS)
CHAT = ChatFormat(BPETokenizer.train(["12*7 is 84."], vocab_size=263, pattern="qwen2", special_tokens=SPECIAL))


class Script:
    """A model that says what it is told to: `replies` maps what it was last told (a text) to the ids of its reply."""

    config = SimpleNamespace(block_size=200, vocab_size=CHAT.tokenizer.vocab_size)
    training = False

    def __init__(self, replies):
        self.replies = {told: ids for told, ids in replies.items()}
        self.asked = []

    def new_cache(self, batch_size, max_length=None):
        rows = [[] for _ in range(batch_size)]
        cache = SimpleNamespace(rows=rows, length=0)
        cache.select = lambda kept: cache.rows.__setitem__(slice(None), [cache.rows[i] for i in kept])
        return cache

    def hidden(self, tokens, *, cache=None, attention_mask=None):
        for i, row in enumerate(tokens.tolist()):
            real = row if attention_mask is None else [t for t, m in zip(row, attention_mask[i, -len(row) :], strict=True) if m]
            cache.rows[i] += real
        best = np.array([self._next(row) for row in cache.rows])
        hidden = np.zeros((*tokens.shape, self.config.vocab_size), np.float32)
        hidden[np.arange(len(best)), -1, best] = 1
        return Tensor(hidden)

    def logits(self, hidden):
        return hidden

    def _next(self, row):
        start = len(row) - row[::-1].index(CHAT.role_ids["assistant"])
        told = CHAT.decode(
            row[max(i for i, t in enumerate(row[:start]) if t in CHAT.role_ids.values() and i < start - 1) : start]
        )
        reply = self.replies[told]
        said = len(row) - start
        if said == 0:
            self.asked.append(told)
        return reply[said]


def says(text):
    return CHAT.answer(text)


def calls(expression):
    return [CHAT.call_id, *CHAT.tokenizer.encode(expression), CHAT.end_id]


def user(text):
    return [{"role": "user", "content": text}]


def item(task, asked, answer, **more):
    messages = [*user(asked), {"role": "assistant", "content": answer}]
    return Instruction(task, "", messages, answer, **more)


SETTINGS = {"chat": CHAT}


def test_replies_are_judged_task_by_task():
    model = Script({"a": says("1"), "bb": says("2"), "ccc": says(" 3"), "dddd": says("5")})
    items = [item("first", "a", "1"), item("second", "bb", "7"), item("first", "ccc", "3"), item("first", "dddd", "4")]
    found = measure_exact_match(model, items, **SETTINGS, batch_size=3)
    assert {task: (one.n_right, one.n) for task, one in found.items()} == {"first": (2, 3), "second": (0, 1), "all": (2, 4)}


def test_replies_come_in_the_order_of_the_questions():
    texts = ["dddd", "a", "ccc", "bb"]
    model = Script({text: says(text.upper()) for text in texts})
    assert answer_all(model, [user(text) for text in texts], **SETTINGS, batch_size=2) == ["DDDD", "A", "CCC", "BB"]


def test_a_call_is_carried_out_and_its_result_is_read():
    model = Script({"how much": calls("12*7"), "84": says("It is 84."), "hello": says("Hi.")})
    replies = answer_all(model, [user("how much"), user("hello")], **SETTINGS)
    assert replies == ["It is 84.", "Hi."] and "84" in model.asked


def test_a_wrong_call_is_answered_with_the_error():
    model = Script({"how much": calls("12/"), calculate("12/"): says("I do not know.")})
    assert calculate("12/").startswith("error")
    assert answer_all(model, [user("how much")], **SETTINGS) == ["I do not know."]


def test_another_tool_can_take_the_calculator_s_place():
    model = Script({"how much": calls("12*7"), "many": says("So many.")})
    assert answer_all(model, [user("how much")], **SETTINGS, calculate=lambda expression: "many") == ["So many."]


def test_a_model_that_calls_for_ever_is_stopped():
    model = Script({"how much": calls("12*7"), "84": calls("12*7")})
    assert answer_all(model, [user("how much")], **SETTINGS) == [""]
    assert len(model.asked) == 2


def test_a_call_that_leaves_no_room_for_its_answer_takes_none_from_the_others():
    long = [*CHAT.tokenizer.encode("1") * 150, *calls("12*7")]
    model = Script({"a" * 30: long, "bb": calls("12*7"), "84": says("It is 84.")})
    replies = answer_all(model, [user("a" * 30), user("bb")], **SETTINGS, max_new_tokens=160)
    assert replies[0] != "It is 84." and replies[1] == "It is 84."


def test_a_reply_that_never_ends_is_cut_and_wrong():
    model = Script({"a": [CHAT.tokenizer.encode("1")[0]] * 300})
    found = measure_exact_match(model, [item("t", "a", "1")], **SETTINGS, max_new_tokens=5)
    assert found["all"].accuracy == 0


def test_what_is_not_verifiable_is_not_asked():
    model = Script({"a": says("1")})
    found = measure_exact_match(model, [item("t", "a", "1"), item("t", "b", "2", verifiable=False)], **SETTINGS)
    assert found["all"].n == 1
    with pytest.raises(ValueError, match="no verifiable one"):
        measure_exact_match(model, [item("t", "b", "2", verifiable=False)], **SETTINGS)


def test_the_standard_error_is_that_of_a_share():
    one = ExactMatch(n_right=80, n=100)
    assert one.accuracy == 0.8 and math.isclose(one.standard_error, 0.04)
    assert ExactMatch(0, 10).standard_error == 0


def test_a_question_that_fills_the_context_is_refused():
    model = Script({})
    with pytest.raises(ValueError, match="block_size 200 has no room"):
        answer_all(model, [user("x" * 200)], **SETTINGS)


def test_an_untrained_model_is_near_zero_and_keeps_its_mode():
    config = GPTConfig(vocab_size=CHAT.tokenizer.vocab_size, block_size=400, n_layers=1, n_heads=1, d_model=8)
    model = GPT(config, rng=np.random.default_rng(0))
    items = make_instructions(20, split="test", rng=np.random.default_rng(0))
    found = measure_exact_match(model, items, **SETTINGS, max_new_tokens=4)
    assert found["all"].n == 20 and found["all"].accuracy < 0.1 and model.training
