"""Readers of published formats; the sample files in tests/fixtures/chat are our own text."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from tinyllm.data.messages import FOLLOWING, check_turns, read_conversations
from tinyllm.data.packing import PackedConversations
from tinyllm.data.records import Skip
from tinyllm.storage import FormatError
from tinyllm.tokenizers import CONTROL_TOKENS, ByteTokenizer, ChatFormat, chat
from tinyllm.tokenizers.chat import check_messages

FIXTURES = Path(__file__).parents[1] / "fixtures/chat"
SAMPLES = {  # file -> (conversations, skipped)
    "messages.jsonl": (4, 2), "sharegpt.json": (3, 1), "alpaca.json": (3, 1), "alpaca.jsonl": (2, 0), "dolly.jsonl": (2, 0),
    "prompt_completion.jsonl": (2, 1),
}  # fmt: skip
FORMAT = ChatFormat(ByteTokenizer().with_special_tokens(CONTROL_TOKENS))


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("name", SAMPLES)
def test_each_sample_goes_unchanged_through_reader_format_and_packing(name):
    conversations, report = read_conversations(FIXTURES / name)
    assert (len(conversations), report.n_skipped) == SAMPLES[name] and report.n_records == sum(SAMPLES[name])
    encoded = [FORMAT.encode(conversation) for conversation in conversations]
    source = PackedConversations(encoded, batch_size=2, block_size=512, rng=np.random.default_rng(0))
    batches = [source.next_batch() for _ in range(source.batches_per_epoch)]
    learned = b"".join(FORMAT.tokenizer.decode_bytes(b.targets[b.mask]) for b in batches).decode()
    for message in itertools.chain(*conversations):
        if message["role"] == "assistant":
            said = message["content"] + (f"<|call|>{message['tool_call']}" if "tool_call" in message else "")
            assert f"{said}<|end|>" in learned
    assert source.n_skipped == 0


def test_openai_messages():
    conversations, report = read_conversations(FIXTURES / "messages.jsonl")
    assert conversations[0][0] == {"role": "system", "content": "You are a patient teacher."}
    assert [message["role"] for message in conversations[1]] == ["user", "assistant"] * 2
    assert conversations[2] == [
        user("What is 12 times 7?"), assistant("", tool_call="12*7"), {"role": "tool", "content": "84"},
        assistant("12 times 7 is 84."),
    ]  # fmt: skip
    assert conversations[3][:2] == [{"role": "system", "content": "Answer in one word."}, user("Capital of Peru?")]
    assert str(report) == (
        f"{FIXTURES / 'messages.jsonl'}: 6 records, 2 skipped: 1 without an answer of the assistant (first: line 5), "
        "1 with a call of a tool that is not a calculator (first: line 6)"
    )


def test_sharegpt():
    conversations, report = read_conversations(FIXTURES / "sharegpt.json")
    assert conversations[0][2:] == [user("Another one?"), assistant("The kiwi.")]
    assert conversations[1][0] == {"role": "system", "content": "Talk like a sailor."}
    assert conversations[2][1:3] == [assistant("", tool_call="30/4"), {"role": "tool", "content": "7.5"}]
    assert report.places == {"with speakers out of turn": ["record 4"]}


def test_alpaca_and_dolly():
    conversations, report = read_conversations(FIXTURES / "alpaca.json")
    assert conversations[0] == [user("Sort the words.\n\npear apple fig"), assistant("apple fig pear")]
    assert conversations[1] == [user("Name a colour of the rainbow."), assistant("Green.")]
    assert report.reasons == {"with an empty message": 1}
    conversations, _ = read_conversations(FIXTURES / "alpaca.jsonl")
    assert conversations[0] == [
        {"role": "system", "content": "Answer with a number where you can."}, user("Are you ready?"), assistant("Yes."),
        user("Count the letters.\n\nkiwi"), assistant("4"),
    ]  # fmt: skip
    conversations, _ = read_conversations(FIXTURES / "dolly.jsonl")
    assert conversations[0][0] == user("Who wrote the letter?\n\nThe letter was written by Ada in May.")


def test_prompt_and_completion():
    conversations, report = read_conversations(FIXTURES / "prompt_completion.jsonl")
    assert conversations[0] == [user("The opposite of hot is"), assistant("cold")]
    assert conversations[1] == [user("One word: the largest ocean?"), assistant("Pacific")]
    assert report.reasons == {"with an empty message": 1}


def test_our_own_messages_come_back_from_lines_bare_lists_and_one_list(tmp_path):
    with_tool = [user("1+1?"), assistant("", tool_call="1+1"), {"role": "tool", "content": "2"}, assistant("2")]
    ours = [with_tool, [user("a"), assistant(" b\n")]]
    assert read_conversations(write(tmp_path / "a", *({"messages": one} for one in ours)))[0] == ours
    assert read_conversations(write(tmp_path / "b", *ours))[0] == ours
    assert read_conversations(write(tmp_path / "c", ours[0]))[0] == ours[:1]  # one conversation, not four records
    assert read_conversations(write(tmp_path / "d", ours))[0] == ours
    assert read_conversations(write(tmp_path / "e", [{"messages": one} for one in ours]))[0] == ours
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbf\n" + (tmp_path / "a").read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert read_conversations(tmp_path / "f")[0] == ours


def test_an_empty_system_message_is_none(tmp_path):
    path = write(tmp_path / "a", {"messages": [{"role": "system", "content": " "}, user("a"), assistant("b")]})
    assert read_conversations(path)[0] == [[user("a"), assistant("b")]]


def call(name, arguments):
    return {"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "without messages"),
        ([user("a")], "without an answer of the assistant"),
        ([user("a"), assistant(" ")], "with an empty message"),
        ([user(""), assistant("b")], "with an empty message"),
        ([user("a"), assistant("b"), assistant("c")], "with speakers out of turn"),
        ([assistant("b")], "with speakers out of turn"),
        ([user("a"), {"role": "tool", "content": "1"}, assistant("b")], "with speakers out of turn"),
        ([user("a"), assistant("b", weight=0)], "with an answer of weight 0, which is not to be learned"),
        ([user("a"), call("search", '{"q": "x"}')], "with a call of a tool that is not a calculator"),
        ([user("a"), call("calculator", '{"a": "1", "b": "2"}')], "with a calculator's call that is not one expression"),
        ([user("a"), call("calculator", {"a": 1})], "with a calculator's call that is not one expression"),
        ([user("a"), call("calculator", "1") | {"tool_calls": 2 * call("calculator", "1")["tool_calls"]}],
         "with several tool calls at once"),
        ([user([{"type": "image_url"}]), assistant("b")], "with pictures or other parts that are not text"),
    ],
)  # fmt: skip
def test_records_that_teach_nothing_are_counted_with_their_reason(tmp_path, messages, reason):
    good = {"messages": [user("a"), assistant("b")]}
    conversations, report = read_conversations(write(tmp_path / "a.jsonl", good, {"messages": messages}, {"messages": messages}))
    assert conversations == [good["messages"]] and report.places == {reason: ["line 2", "line 3"]}
    with pytest.raises(ValueError, match=f"a.jsonl: 1 record, 1 skipped: 1 {reason}.* nothing is left to learn from"):
        read_conversations(write(tmp_path / "a.jsonl", {"messages": messages}))


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"text": "a"}, "line 2: messages: expected this key, as in the first record, found only the keys text"),
        ("a", "line 2: expected an object, found a"),
        ({"messages": "a"}, "line 2: messages: expected a list, found a"),
        ({"messages": ["a"]}, "line 2: messages[0]: expected an object, found a"),
        ({"messages": [{"content": "a"}]}, "line 2: messages[0].role: expected a string, found None"),
        ({"messages": [{"role": "narrator", "content": "a"}]}, "line 2: messages[0].role: expected one of system, developer"),
        ({"messages": [{"role": "user"}]}, "line 2: messages[0].content: expected a string, found only the keys role"),
        ({"messages": [user("a"), assistant(7)]}, "line 2: messages[1].content: expected a string or null, found 7"),
        ({"messages": [user("a"), assistant("", tool_call=7)]}, "line 2: messages[1].tool_call: expected a string, found 7"),
        ({"messages": [user("a"), {"role": "assistant", "tool_calls": [7]}]}, "messages[1].tool_calls[0]: expected an object"),
    ],
)
def test_a_record_that_breaks_the_format_is_an_error_with_its_place(tmp_path, record, complaint):
    path = write(tmp_path / "a.jsonl", {"messages": [user("a"), assistant("b")]}, record)
    with pytest.raises(FormatError) as caught:
        read_conversations(path)
    assert f"{path}: {complaint}" in str(caught.value) or complaint in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no records"),
        (b"[]\n", "holds no records"),
        (b'{"text": "a"}', "line 1: expected a record with the keys of a known format (messages; conversations; instruction and"),
        (b'{"messages": [}', "line 1: expected valid JSON"),
        (b'[{"messages": [}]', "expected valid JSON"),
        (b'[\n {"instruction": "a", "output": "b"},\n {"instruction": "a"}\n]', "record 2: output: expected this key"),
        (b'{"instruction": 1, "output": "b"}', "line 1: instruction: expected a string, found 1"),
        (b'{"instruction": "a", "output": "b", "history": [["a"]]}', "line 1: history: expected pairs of question and answer"),
        (b'{"prompt": 1, "completion": "b"}', "line 1: prompt: expected a string or a list, found 1"),
        (b'{"prompt": "\xff"}', "line 1: expected UTF-8 text"),
    ],
)
def test_a_file_that_is_nothing_known_is_an_error(tmp_path, content, complaint):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_conversations(tmp_path / "a.jsonl")
    assert complaint in str(caught.value) and "a.jsonl" in str(caught.value)


def test_readers_and_the_chat_format_agree_on_whose_turn_it_is():
    assert FOLLOWING == chat.FOLLOWING
    kinds = {"s": {"role": "system", "content": "x"}, "u": user("x"), "a": assistant("x"), "c": assistant("", tool_call="1"),
             "t": {"role": "tool", "content": "x"}}  # fmt: skip
    for letters in itertools.chain(*(itertools.product(kinds, repeat=n) for n in range(1, 5))):
        messages = [kinds[letter] for letter in letters]
        assert passes(check_turns, messages) == passes(check_messages, messages), letters


def passes(check, messages):
    try:
        check(messages)
    except (Skip, ValueError):
        return False
    return True
