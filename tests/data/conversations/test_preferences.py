import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data.conversations.preferences import Preference, read_preferences, write_preferences
from tinyllm.storage import FormatError
from tinyllm.tokenizers import CONTROL_TOKENS, ByteTokenizer, ChatFormat

FIXTURES = Path(__file__).parents[2] / "fixtures/chat"
FORMAT = ChatFormat(ByteTokenizer().with_special_tokens(CONTROL_TOKENS))
SAMPLES = {
    "preferences_trl.jsonl": (2, {"whose two answers are equal": 1, "with an empty prompt": 1}),
    "preferences_explicit.jsonl": (2, {}),
    "preferences_implicit.jsonl": (2, {"whose two answers have different prompts": 1}),
    "preferences_hh.jsonl": (2, {"whose two answers have different prompts": 1, "with an empty answer": 1}),
}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("name", SAMPLES)
def test_each_sample_is_read_encoded_and_written_as_ours(name, tmp_path):
    preferences, report = read_preferences(FIXTURES / name)
    assert (len(preferences), report.reasons) == SAMPLES[name]
    for one in preferences:
        prompt = FORMAT.prompt(one.prompt)
        assert prompt + FORMAT.answer(one.chosen) == FORMAT.encode([*one.prompt, assistant(one.chosen)])[0]
    write_preferences(tmp_path / "ours.jsonl", preferences)
    again, report = read_preferences(tmp_path / "ours.jsonl")
    assert again == preferences and report.n_skipped == 0


def test_the_formats():
    assert read_preferences(FIXTURES / "preferences_trl.jsonl")[0][0] == Preference(
        [user("What do bees make?")], "Bees make honey and wax.", "Bees are yellow."
    )
    explicit, _ = read_preferences(FIXTURES / "preferences_explicit.jsonl")
    assert [len(one.prompt) for one in explicit] == [1, 3] and explicit[0].chosen == "Eight."
    implicit, _ = read_preferences(FIXTURES / "preferences_implicit.jsonl")
    assert implicit[1] == Preference([user("What colour is snow?")], "White.", "Warm.")
    hh, report = read_preferences(FIXTURES / "preferences_hh.jsonl")
    assert hh[1].prompt == [user("Hi"), assistant("Hello!"), user("What is tea?")]
    assert hh[1].chosen == "A drink of leaves and hot water.\n\nIt comes from China."
    assert str(report).endswith(
        "4 records, 2 skipped: 1 whose two answers have different prompts (first: line 3), 1 with an empty answer (first: line 4)"
    )


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)


two_texts = st.lists(text, min_size=2, max_size=2, unique=True)


@given(prompt=text, answers=two_texts, margin=st.none() | st.floats(-9, 9), source=st.text("ab"))
def test_what_is_written_is_read_again(tmp_path_factory, prompt, answers, margin, source):
    path = tmp_path_factory.mktemp("p") / "a.jsonl"
    ours = [Preference([{"role": "system", "content": "s"}, user(prompt)], *answers, margin, source)] * 2
    write_preferences(path, ours)
    assert read_preferences(path)[0] == ours
    assert len(path.read_bytes().splitlines()) == 2


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": " b "}, "whose two answers are equal"),
        ({"prompt": [], "chosen": "b", "rejected": "c"}, "with an empty prompt"),
        ({"prompt": [{"role": "system", "content": "s"}], "chosen": "b", "rejected": "c"}, "with an empty prompt"),
        ({"prompt": [user("a"), assistant("b")], "chosen": "b", "rejected": "c"}, "with speakers out of turn"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "with an empty answer"),
        ({"chosen": [user("a")], "rejected": [user("a"), assistant("b")]}, "whose last message is not the assistant's"),
        ({"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: a\n\nAssistant: b"}, "whose last message is not the assistant's"),
        ({"prompt": "a", "chosen": [user("b"), assistant("b")], "rejected": [user("b"), assistant("c")]},
         "whose two answers have different prompts"),
        ({"chosen": [user("a"), {**assistant(""), "tool_call": "1"}], "rejected": [user("a"), assistant("b")]},
         "whose answer is a tool call"),
    ],
)  # fmt: skip
def test_pairs_that_teach_nothing_are_counted_with_their_reason(tmp_path, record, reason):
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    preferences, report = read_preferences(write(tmp_path / "a.jsonl", good, record))
    assert len(preferences) == 1 and report.places == {reason: ["line 2"]}
    with pytest.raises(ValueError, match=f"1 record, 1 skipped: 1 {reason}.* nothing is left"):
        read_preferences(write(tmp_path / "a.jsonl", record))


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"prompt": "a", "chosen": "b"}, "line 2: rejected: expected this key, of a preference, found only the keys prompt, cho"),
        ({"prompt": "a"}, "line 2: chosen: expected this key"),
        ({"prompt": "a", "chosen": 1, "rejected": "c"}, "line 2: chosen: expected a string or a list, found 1"),
        ({"prompt": 1, "chosen": "b", "rejected": "c"}, "line 2: prompt: expected a string or a list, found 1"),
        ({"chosen": "b", "rejected": "c"}, 'line 2: chosen: expected a "prompt" beside this text, or a transcript'),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "margin": "x"}, "line 2: margin: expected a number or null, found x"),
    ],
)
def test_a_malformed_record_is_counted_with_its_place_and_the_others_are_read(tmp_path, record, complaint):
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    preferences, report = read_preferences(write(tmp_path / "a.jsonl", good, record, good))
    assert len(preferences) == 2 and report.reasons == {"malformed": 1} and complaint in str(report)
    path = write(tmp_path / "a.jsonl", record)
    with pytest.raises(FormatError) as caught:  # nothing is left: then it is an error
        read_preferences(path)
    assert f"{path}: {complaint.replace('line 2', 'line 1')}" in str(caught.value)


def test_an_unknown_speaker_costs_one_pair_and_can_be_mapped(tmp_path):
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    strange = {"chosen": [user("a"), {"role": "bing", "content": "b"}], "rejected": [user("a"), assistant("c")]}
    path = write(tmp_path / "a.jsonl", good, strange)
    preferences, report = read_preferences(path)
    assert len(preferences) == 1 and report.places == {"with the unknown role 'bing'": ["line 2"]}
    assert len(read_preferences(path, roles={"bing": "assistant"})[0]) == 2


def test_a_system_message_beside_a_pair_is_used_and_other_keys_are_said(tmp_path):
    record = {"prompt": "a", "chosen": "b", "rejected": "c", "system": "Be kind.", "tools": [1], "prompt_id": "x"}
    (one,), report = read_preferences(write(tmp_path / "a.jsonl", record))
    assert one.prompt == [{"role": "system", "content": "Be kind."}, user("a")] and report.unused == {"tools": ["line 1"]}


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"preferences\[1\]: .* got one whose two answers are equal"):
        write_preferences(tmp_path / "a", [Preference([user("a")], "b", "c"), Preference([user("a")], "b", "b")])
    with pytest.raises(ValueError, match=r"preferences\[0\]: .* got one whose margin is not a number"):
        write_preferences(tmp_path / "a", [Preference([user("a")], "b", "c", float("nan"))])
    with pytest.raises(ValueError, match="preferences: got none"):
        write_preferences(tmp_path / "a", [])
    assert not (tmp_path / "a").exists()
