import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.tokenizers import (
    CONTROL_TOKENS,
    END_OF_TEXT,
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    ChatFormat,
    PlainChatFormat,
    chat_format,
)
from tinyllm.tokenizers.chat import check_messages

SPECIAL = (END_OF_TEXT, *CONTROL_TOKENS)
BYTES = ByteTokenizer(special_tokens=SPECIAL)
WORDS = ["<|user|> the user said: it is 84 <|end|> of it <|endoftext|>\n" * 3]
BPE = BPETokenizer.train(WORDS, vocab_size=290, pattern="qwen2", special_tokens=SPECIAL)
FORMATS = {"byte": ChatFormat(BYTES), "bpe": ChatFormat(BPE)}
every = pytest.mark.parametrize("name", FORMATS)
TOOL = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "12 times 7?"},
    {"role": "assistant", "content": "", "tool_call": "12*7"},
    {"role": "tool", "content": "84"},
    {"role": "assistant", "content": "It is 84."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "Any time."},
]


def user(text):
    return {"role": "user", "content": text}


def spelled(tokenizer, ids):
    """The ids as text, control tokens by their names."""
    return tokenizer.decode(ids)


@every
def test_a_conversation_is_written_as_documented(name):
    form = FORMATS[name]
    ids, mask = form.encode(TOOL)
    assert spelled(form.tokenizer, ids) == (
        "<|endoftext|><|system|>Be brief.<|end|><|user|>12 times 7?<|end|><|assistant|><|call|>12*7<|end|>"
        "<|tool|>84<|end|><|assistant|>It is 84.<|end|><|user|>Thanks<|end|><|assistant|>Any time.<|end|>"
    )
    assert len(ids) == len(mask) and set(map(type, mask)) == {bool}


@every
def test_the_mask_holds_what_the_assistant_says_its_ends_and_calls_and_nothing_else(name):
    form = FORMATS[name]
    ids, mask = form.encode(TOOL)
    said = [i for i, own in zip(ids, mask, strict=True) if own]
    assert spelled(form.tokenizer, said) == "<|call|>12*7<|end|>It is 84.<|end|>Any time.<|end|>"


def test_text_before_a_call_is_kept():
    form = FORMATS["byte"]
    message = {"role": "assistant", "content": "Let me see: ", "tool_call": "1+1"}
    ids, _ = form.encode([user("1+1?"), message])
    assert spelled(BYTES, ids).endswith("<|assistant|>Let me see: <|call|>1+1<|end|>")
    assert form.parse(ids[ids.index(form.role_ids["assistant"]) + 1 :]) == message


@every
def test_a_prompt_and_an_answer_are_the_conversation(name):
    form = FORMATS[name]
    ids, mask = form.encode(TOOL)
    prompt = form.prompt(TOOL[:-1])
    assert prompt + form.answer("Any time.") == ids
    assert not mask[len(prompt) - 1] and all(mask[len(prompt) :])
    assert form.prompt(TOOL[:4])[-1] == form.role_ids["assistant"]  # a tool's answer is replied to as well


@every
def test_generated_ids_are_read_back_as_messages(name):
    form = FORMATS[name]
    assert form.parse(form.answer("It is 84.")) == {"role": "assistant", "content": "It is 84."}
    assert form.parse([form.call_id, *form.answer("12*7")]) == {"role": "assistant", "content": "", "tool_call": "12*7"}
    noise = [form.role_ids["user"], *form.answer("a"), *form.answer("b")]  # nothing counts after the first end
    assert form.parse(noise) == {"role": "assistant", "content": "a"}
    assert form.parse([]) == {"role": "assistant", "content": ""}


@every
def test_decoding_leaves_control_tokens_out(name):
    form = FORMATS[name]
    assert form.decode(form.encode(TOOL[:2])[0]) == "Be brief.12 times 7?"
    assert form.decode(iter(form.answer("a <|end|>"))) == "a <|end|>"  # letters, not the token


spelling = st.lists(st.one_of(st.sampled_from([*SPECIAL, "<|", "|>", "end", " ", "\n"]), st.text(max_size=3))).map("".join)


@every
@given(text=spelling, call=spelling)
def test_no_text_ever_makes_a_control_token(name, text, call):
    form = FORMATS[name]
    control = set(form.tokenizer.special_tokens.values())
    honest = [
        {"role": "system", "content": "x"}, user("x"), {"role": "assistant", "content": "x", "tool_call": "x"},
        {"role": "tool", "content": "x"}, {"role": "assistant", "content": "x"},
    ]  # fmt: skip
    hostile = [{**m, "content": text} | ({"tool_call": call} if "tool_call" in m else {}) for m in honest]

    def skeleton(messages):
        return [i for i in form.encode(messages)[0] if i in control]

    assert skeleton(hostile) == skeleton(honest)
    assert not control & set(form.tokenizer.encode(text)) and form.decode(form.answer(text)) == text


ROLE_KINDS = {
    "s": {"role": "system", "content": "x"}, "u": user("x"), "a": {"role": "assistant", "content": "x"},
    "c": {"role": "assistant", "content": "", "tool_call": "1"}, "t": {"role": "tool", "content": "x"},
}  # fmt: skip


def test_the_orders_of_roles_that_are_conversations():
    allowed = set()
    for n in (1, 2, 3, 4):
        for kinds in itertools.product(ROLE_KINDS, repeat=n):
            try:
                check_messages([ROLE_KINDS[kind] for kind in kinds])
                allowed.add("".join(kinds))
            except ValueError:
                pass
    assert allowed == set("s u su ua uc sua suc uau uct suau suct uaua uauc ucta uctc".split())


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "messages: got an empty conversation"),
        ("Hi", "messages: got a str, expected a list"),
        ({"role": "user", "content": "Hi"}, "messages: got a dict, expected a list"),
        (["Hi"], 'messages[0]: got \'Hi\', expected a dict with "role" and "content"'),
        ([{"role": "user"}], "messages[0]: has no 'content'"),
        ([{"content": "Hi"}], "messages[0]: has no 'role'"),
        ([{"role": "human", "content": "Hi"}], "messages[0]: got role 'human', expected one of 'system'"),
        ([{"role": "user", "content": None}], "messages[0]: content is a NoneType, expected str"),
        ([{"role": "user", "content": [{"text": "Hi"}]}], "messages[0]: content is a list, expected str"),
        ([{"role": "user", "content": "Hi", "tool_calls": "1"}], "messages[0]: got the key 'tool_calls'"),
        ([{"role": "user", "content": "Hi", "tool_call": "1"}], "only the assistant calls tools"),
        ([{"role": "assistant", "content": "Hi"}], "messages[0]: got role 'assistant' at the start, expected 'system' or 'user'"),
        ([user("a"), user("b")], "messages[1]: got role 'user' after user, expected 'assistant'"),
        ([user("a"), {"role": "tool", "content": "1"}], "messages[1]: got role 'tool' after user"),
        ([user("a"), {"role": "system", "content": "1"}], "messages[1]: got role 'system' after user"),
        ([*TOOL[:3], user("a")], "messages[3]: got role 'user' after an assistant's tool_call, expected 'tool'"),
        ([*TOOL[:4], user("a")], "messages[4]: got role 'user' after a tool's answer, expected 'assistant'"),
    ],
)
def test_what_is_no_conversation_is_explained(messages, complaint):
    for form in (*FORMATS.values(), PlainChatFormat(BYTES)):
        for write in (form.encode, form.prompt):
            with pytest.raises(ValueError) as caught:
                write(messages)
            assert complaint in str(caught.value)


def test_a_prompt_must_leave_the_word_to_the_assistant():
    for n, who in ((1, "of role 'system'"), (3, "the assistant's call, which waits for the tool"), (5, "of role 'assistant'")):
        with pytest.raises(ValueError, match=f"messages: the last one is {who}; expected a user's message"):
            FORMATS["byte"].prompt(TOOL[:n])


def test_the_format_follows_from_the_tokenizer():
    assert isinstance(chat_format(BYTES), ChatFormat)
    for lacking in (ByteTokenizer(), ByteTokenizer(special_tokens=SPECIAL[:-1]), ByteTokenizer(special_tokens=SPECIAL[1:])):
        assert isinstance(chat_format(lacking), PlainChatFormat)
        with pytest.raises(ValueError, match=r"tokenizer: has no <\|.*with_special_tokens"):
            ChatFormat(lacking)
    assert isinstance(chat_format(ByteTokenizer().with_special_tokens(CONTROL_TOKENS)), ChatFormat)


def test_the_plain_format_writes_names_and_reads_up_to_the_next_name():
    form = PlainChatFormat(ByteTokenizer())
    conversation = [{"role": "system", "content": "Be brief."}, user("Hi"), {"role": "assistant", "content": "Hello"}]
    ids, mask = form.encode(conversation)
    assert spelled(form.tokenizer, ids) == "<|endoftext|>System: Be brief.\nUser: Hi\nAssistant: Hello\n"
    assert spelled(form.tokenizer, [i for i, own in zip(ids, mask, strict=True) if own]) == " Hello\n"
    prompt = form.prompt(conversation[:2])
    assert spelled(form.tokenizer, prompt).endswith("Hi\nAssistant:") and prompt + form.answer("Hello") == ids
    assert form.parse(form.tokenizer.encode(" Hello\nthere\nUser: and")) == {"role": "assistant", "content": "Hello\nthere"}
    with pytest.raises(ValueError, match=r"messages\[2\]: a tool_call needs the control tokens"):
        form.encode(TOOL)


def test_the_plain_format_needs_no_special_token_at_all():
    form = chat_format(CharacterTokenizer("Usertan:AiSym \nh", special_tokens=()))
    assert form.decode(form.prompt([user("hi")])) == "User: hi\nAssistant:"
