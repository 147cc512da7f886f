"""Readers of published formats; the sample files in tests/fixtures/chat are our own text."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from tinyllm.data.conversations.messages import FOLLOWING, check_turns, read_conversations, read_prompts
from tinyllm.data.conversations.packing import PackedConversations
from tinyllm.data.records import Skip
from tinyllm.storage import FormatError
from tinyllm.tokenizers import CONTROL_TOKENS, ByteTokenizer, ChatFormat, chat
from tinyllm.tokenizers.chat import check_messages

FIXTURES = Path(__file__).parents[2] / "fixtures/chat"
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
    learned = b"".join(FORMAT.tokenizer.decode_bytes(b.targets[b.loss_mask]) for b in batches).decode()
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
        ({"text": "a"}, "line 2: expected a record with the keys of a known format"),
        ("a", "line 2: expected an object, found a"),
        ({"messages": "a"}, "line 2: messages: expected a list, found a"),
        ({"messages": ["a"]}, "line 2: messages[0]: expected an object, found a"),
        ({"messages": [{"content": "a"}]}, "line 2: messages[0].role: expected a string, found None"),
        ({"messages": [{"role": "user"}]}, "line 2: messages[0].content: expected a string, found only the keys role"),
        ({"messages": [user("a"), assistant(7)]}, "line 2: messages[1].content: expected a string or null, found 7"),
        ({"messages": [user("a"), assistant("", tool_call=7)]}, "line 2: messages[1].tool_call: expected a string, found 7"),
        ({"messages": [user("a"), {"role": "assistant", "tool_calls": [7]}]}, "messages[1].tool_calls[0]: expected an object"),
        ({"instruction": "a", "output": "b", "system": 7}, "line 2: system: expected a string, found 7"),
        ({"instruction": "a", "output": "b", "score": float("nan")}, "line 2: expected finite numbers, found NaN"),
        ({"instruction": "a", "output": "\ud83d"}, "line 2: expected text without lone surrogates, found '\\ud83d'"),
    ],
)
def test_a_malformed_record_is_counted_with_its_place_and_the_others_are_read(tmp_path, record, complaint):
    good = {"messages": [user("a"), assistant("b")]}
    conversations, report = read_conversations(write(tmp_path / "a.jsonl", good, record, good, record))
    assert conversations == 2 * [good["messages"]]
    assert report.reasons == {"malformed": 2} and "2 skipped: 2 malformed (first: line 2" in str(report)
    assert complaint in str(report)
    with pytest.raises(FormatError) as caught:  # nothing is left: then it is an error
        read_conversations(write(tmp_path / "a.jsonl", record, record))
    assert "line 1" in str(caught.value) or "messages" in str(caught.value)


def test_a_torn_last_line_is_counted_and_one_format_may_follow_another(tmp_path):
    path = write(tmp_path / "a.jsonl", {"messages": [user("a"), assistant("b")]}, {"prompt": "c", "completion": "d"})
    path.write_bytes(path.read_bytes() + b'{"messages": [{"role": "us')
    conversations, report = read_conversations(path)
    assert conversations == [[user("a"), assistant("b")], [user("c"), assistant("d")]]
    assert "1 malformed (first: line 3: expected valid JSON" in str(report)


def turns(*said):
    return [{"from": name, "value": text} for name, text in said]


def test_a_sharegpt_file_with_one_unknown_speaker_is_read_without_that_record(tmp_path):
    good = {"conversations": turns(("human", "a"), ("GPT ", "b"))}
    strange = {"conversations": turns(("human", "a"), ("bing", "c"))}
    path = write(tmp_path / "a.jsonl", good, strange)
    conversations, report = read_conversations(path)
    assert conversations == [[user("a"), assistant("b")]] and report.places == {"with the unknown role 'bing'": ["line 2"]}
    conversations, report = read_conversations(path, roles={"Bing": "assistant"})
    assert conversations == [[user("a"), assistant("b")], [user("a"), assistant("c")]] and not report.says_something
    with pytest.raises(ValueError, match="1 with the unknown role 'bing' .*nothing is left"):
        read_conversations(write(tmp_path / "b.jsonl", strange))
    with pytest.raises(ValueError, match="roles: 'bing' is said to be 'bot'; expected one of system, user, assistant"):
        read_conversations(path, roles={"bing": "bot"})


@pytest.mark.parametrize(
    "record",
    [
        {"conversations": turns(("human", "a"), ("gpt", "b"))},
        {"messages": [user("a"), assistant("b")]},
        {"messages": [{"role": "system", "content": " "}, user("a"), assistant("b")]},
        {"messages": [{"role": "system", "content": "Be kind."}, user("a"), assistant("b")]},
        {"prompt": "a", "completion": "b"},
        {"prompt": [user("a")], "completion": [assistant("b")]},
        {"instruction": "a", "output": "b"},
    ],
)
@pytest.mark.parametrize("key", ["system", "system_prompt"])
def test_a_system_message_beside_any_format_is_used(tmp_path, record, key):
    conversations, report = read_conversations(write(tmp_path / "a.jsonl", {**record, key: "Be kind."}))
    assert conversations == [[{"role": "system", "content": "Be kind."}, user("a"), assistant("b")]]
    assert not report.says_something


def test_two_different_system_messages_are_a_counted_skip(tmp_path):
    own = {"messages": [{"role": "system", "content": "Be rude."}, user("a"), assistant("b")]}
    _, report = read_conversations(write(tmp_path / "a.jsonl", own, {**own, "system": "Be kind."}))
    assert report.places == {"with two different system messages": ["line 2"]}


def test_keys_that_are_not_used_are_counted_and_said_wherever_they_stand(tmp_path):
    """What says where a record is from loses nothing; an empty value neither."""
    tools = [{"type": "function", "function": {"name": "search"}}]
    records = [
        {"messages": [user("a"), assistant("b", reasoning_content="hm")], "tools": tools, "id": 7, "source": "x", "score": 0.5},
        {"prompt": "a", "completion": "b", "tools": tools, "score": None, "lang": "en"},
        {"messages": [user("a"), assistant("b", audio={}), {**user("c"), "name": "Ada"}, assistant("d", reasoning_content="hm")]},
    ]
    conversations, report = read_conversations(write(tmp_path / "a.jsonl", *records))
    assert len(conversations) == 3 and report.n_skipped == 0
    assert report.unused == {
        "tools": ["line 1", "line 2"], "score": ["line 1"], "messages[].reasoning_content": ["line 1", "line 3"],
    }  # fmt: skip
    assert str(report).endswith(
        "3 records; keys that were not used: 'messages[].reasoning_content' of 2 (first: line 1), "
        "'tools' of 2 (first: line 1), 'score' of 1 (first: line 1)"
    )


def test_a_call_in_openais_first_form_and_one_with_more_keys_are_read(tmp_path):
    function = {"name": "calculator", "arguments": '{"expression": "1+1"}', "strict": True}
    old = {"role": "assistant", "content": None, "function_call": function}
    new = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function, "more": 1}]}
    rest = [{"role": "tool", "content": "2", "tool_call_id": "1"}, assistant("2")]
    conversations, _ = read_conversations(
        write(tmp_path / "a.jsonl", *({"messages": [user("1+1?"), one, *rest]} for one in (old, new)))
    )
    assert conversations[0] == conversations[1] and conversations[0][1] == assistant("", tool_call="1+1")


def test_prompts_of_any_format(tmp_path):
    path = write(
        tmp_path / "a.jsonl", {"prompt": "a", "answer": "b"}, {"prompt": [user("a")], "system": "Be kind."},
        {"messages": [user("a"), assistant("b")]}, {"conversations": turns(("human", "a"), ("gpt", "b"), ("human", "c"))},
        {"instruction": "a", "input": "b", "output": "c"}, [user("a")], {"prompt": " "}, {"prompt": 7}, {"question": "a"},
        {"messages": [assistant("a")]}, {"conversations": turns(("bing", "a"))}, {"prompt": [{"role": "system", "content": "x"}]},
    )  # fmt: skip
    prompts, report = read_prompts(path)
    assert prompts == [
        [user("a")], [{"role": "system", "content": "Be kind."}, user("a")], [user("a")], [user("a"), assistant("b"), user("c")],
        [user("a\n\nb")], [user("a")],
    ]  # fmt: skip
    assert report.reasons == {
        "with an empty message": 1, "malformed": 2, "without messages": 1, "with the unknown role 'bing'": 1,
        "without a question": 1,
    }  # fmt: skip
    assert report.unused == {"answer": ["line 1"]}


def test_of_many_reasons_the_most_frequent_are_named(tmp_path):
    names = [name for name in "abcdefghij" for _ in range(1 + (name == "j"))]
    records = [{"messages": [user("a"), {"role": name, "content": "b"}], name: 1} for name in names]
    _, report = read_conversations(
        write(tmp_path / "a.jsonl", {"messages": [user("a"), assistant("b")], **dict.fromkeys("klmnopqr", 1)}, *records)
    )
    assert "11 skipped: 2 with the unknown role 'j' (first: line 11), 1 with the unknown role 'a'" in str(report)
    assert "4 for other reasons; keys that were not used: 'j' of 2" in str(report) and str(report).endswith(" and 12 more")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no records"),
        (b"[]\n", "holds no records"),
        (b'{"text": "a"}', "line 1: expected a record with the keys of a known format (messages; conversations; instruction and"),
        (b'{"messages": [}', "line 1: expected valid JSON"),
        (b'[{"messages": [}]', "expected valid JSON"),
        (b'[\n {"instruction": "a"},\n {"instruction": "a"}\n]', "record 1: expected a record with the keys of a known format"),
        (b"role,content\nuser,a\n", "line 1: expected a JSON object a line (.jsonl), or one JSON list of them (.json)"),
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


def test_control_tokens_in_a_text_are_said(tmp_path):
    """Files for other trainers end an answer with one; here it is letters, since no text can write a control token."""
    records = [{"prompt": "a", "completion": "b<|endoftext|>"}, {"messages": [user("<|im_start|>a"), assistant("b</s></s>")]}]
    conversations, report = read_conversations(
        write(tmp_path / "a.jsonl", *records, {"prompt": "1 <| 2 |> 3", "completion": "s"})
    )
    assert len(conversations) == 3 and report.says_something
    assert str(report).endswith(
        "; control tokens that are read as letters: '</s>' in 1 (first: line 2), '<|endoftext|>' in 1 (first: line 1), "
        "'<|im_start|>' in 1 (first: line 2)"
    )


def test_a_single_record_may_go_over_several_lines(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"messages": [user("a"), assistant("b")]}, indent=1))
    assert read_conversations(tmp_path / "a.json")[0] == [[user("a"), assistant("b")]]
    (tmp_path / "a.json").write_text('{\n"messages": [')
    with pytest.raises(FormatError, match="line 1: expected valid JSON"):
        read_conversations(tmp_path / "a.json")
