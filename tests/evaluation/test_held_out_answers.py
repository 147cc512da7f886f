"""What a tuned model answers to held-out questions, and how the report shows it."""

import json

import numpy as np
import pytest
from hostile_pages import PAYLOADS, Tags

from tinyllm.autograd import Tensor
from tinyllm.evaluation.held_out_answers import Answered, answer_held_out, read_answers, write_answers
from tinyllm.models import GPT, GPTConfig
from tinyllm.report import write_report
from tinyllm.tokenizers import END_OF_TEXT, ByteTokenizer
from tinyllm.tokenizers.chat import CONTROL_TOKENS, ChatFormat

TOKENIZER = ByteTokenizer(special_tokens=(END_OF_TEXT, *CONTROL_TOKENS))
CHAT = ChatFormat(TOKENIZER)


class Echo(GPT):
    """Answers every question with a Z and the end of its turn."""

    def logits(self, hidden):
        rows = np.zeros((*hidden.shape[:-1], TOKENIZER.vocab_size), np.float32)
        after_z = self._last_tokens == ord("Z")
        rows[np.where(after_z)[0], -1, CHAT.end_id] = 9
        rows[np.where(~after_z)[0], -1, ord("Z")] = 9
        return Tensor(rows)

    def hidden(self, tokens, **settings):
        self._last_tokens = tokens[:, -1]
        return super().hidden(tokens, **settings)


@pytest.fixture
def model():
    return Echo(GPTConfig(TOKENIZER.vocab_size, block_size=64, n_layers=1, n_heads=1, d_model=8), rng=np.random.default_rng(0))


def conversation(*texts):
    roles = ("user", "assistant")
    return CHAT.encode([{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)])


def test_each_question_is_answered_from_what_stands_before_its_last_answer(model):
    conversations = [conversation("How?", "Z"), conversation("Who?", "no", "And now?", "Z"), conversation("Why?", "Zz")]
    answered = answer_held_out(model, conversations, chat=CHAT)
    assert answered == [Answered("How?", "Z", "Z"), Answered("And now?", "Z", "Z"), Answered("Why?", "Zz", "Z")]
    assert [one.right for one in answered] == [True, True, False]


def test_a_tools_result_is_the_question_after_it_and_a_call_is_shown_as_one(model):
    messages = [
        {"role": "user", "content": "2*3?"},
        {"role": "assistant", "content": "", "tool_call": "2*3"},
        {"role": "tool", "content": "6"},
        {"role": "assistant", "content": "Z"},
    ]
    assert answer_held_out(model, [CHAT.encode(messages)], chat=CHAT) == [Answered("6", "Z", "Z")]
    assert answer_held_out(model, [CHAT.encode(messages[:2])], chat=CHAT) == [Answered("2*3?", "[calculator: 2*3]", "Z")]


def test_a_question_that_fills_the_context_is_left_out(model):
    assert answer_held_out(model, [conversation("x" * 70, "Z"), conversation("a", "Z")], chat=CHAT) == [Answered("a", "Z", "Z")]
    assert answer_held_out(model, [], chat=CHAT) == []


def test_what_is_written_is_read_again(tmp_path):
    answered = [Answered(f"question {i}", "a", "a" if i % 4 else "b\ud800") for i in range(100)]
    write_answers(tmp_path, answered)
    found, kept = read_answers(tmp_path)
    assert (found.n_right, found.n) == (75, 100) and len(kept) == 24 and kept[0] == Answered("question 0", "a", "b?")


@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b'{"n": 1, "n_right": 2, "answers": []}', b'{"n": 0, "n_right": 0, "answers": []}']
)
def test_a_torn_or_absent_file_leaves_the_part_out(tmp_path, content):
    if content is not None:
        (tmp_path / "answers.json").write_bytes(content)
    assert read_answers(tmp_path) == (None, [])


def test_the_report_shows_the_share_of_right_answers_and_the_answers_the_wrong_ones_first(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 2.0}))
    answered = [Answered("easy?", "yes", "yes"), *(Answered(payload, payload, "no") for payload in PAYLOADS)]
    write_answers(tmp_path, answered)
    markup = write_report(tmp_path).read_text("utf-8")
    found = Tags(markup)
    assert "10.0%held-out questions answered right± 9.5%, 10 asked" in found.text
    assert "script" not in found.tags and all(payload in found.text for payload in PAYLOADS)
    assert markup.index("easy?") > markup.index("javascript:alert")
    assert "nothing was held out" not in markup
