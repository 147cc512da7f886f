"""Items: prompts and answers to be labeled."""

import pytest

from tinyllm.labels import Item, read_items, write_items

PROMPT = [{"role": "user", "content": "Hi"}]


def test_items_come_back_as_they_were_written(tmp_path):
    call = [
        {"role": "user", "content": "2*3?"},
        {"role": "assistant", "content": "", "tool_call": "2*3"},
        {"role": "tool", "content": "6"},
    ]
    items = [Item("a", PROMPT, ("x", "", "\u2028\n")), Item("b", call, ("6", "7"), source="sums", data={"answer": 6})]
    write_items(tmp_path / "items.jsonl", items)
    assert read_items(tmp_path / "items.jsonl") == items
    assert len((tmp_path / "items.jsonl").read_bytes().splitlines()) == 2


def test_a_text_is_a_prompt_of_one_user_message():
    assert Item("a", "Hi", ("x", "y")) == Item("a", PROMPT, ("x", "y"))


def test_the_fingerprint_changes_with_every_text_shown_and_with_nothing_else():
    item = Item("a", "Hi", ("x", "y"))
    others = [
        Item("a", "Hi.", ("x", "y")),
        Item("a", "Hi", ("x", "z")),
        Item("a", "Hi", ("y", "x")),
        Item("a", "Hi", ("x", "y", "")),
    ]
    assert len({item.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert Item("b", "Hi", ("x", "y"), source="s", data={"a": 1}).fingerprint == item.fingerprint


@pytest.mark.parametrize(
    "line, text",
    [
        (b'{"id": "a", "prompt": "Hi", "answers": ["x"]}', "1 answers; expected 2 to 9"),
        (b'{"id": "", "prompt": "Hi", "answers": ["x", "y"]}', "expected 1 to 200 characters"),
        (b'{"id": "a", "prompt": " ", "answers": ["x", "y"]}', "empty prompt"),
        (b'{"id": "a", "prompt": [], "answers": ["x", "y"]}', "empty conversation"),
        (b'{"id": "a", "prompt": [{"role": "robot", "content": "Hi"}], "answers": ["x", "y"]}', "role 'robot'"),
        (b'{"id": "a", "prompt": [{"role": "assistant", "content": "Hi"}], "answers": ["x", "y"]}', "'assistant' at the start"),
        (b'{"id": "a", "prompt": "Hi", "answers": ["x", 2]}', r"answers\[1\]: expected a string"),
        (b'{"id": "a", "prompt": "Hi", "answers": ["x", "y"], "anwser": 1}', "unknown key"),
        (b'{"id": "a", "answers": ["x", "y"]}', "key is missing"),
        (b'{"id": "a", "prompt": "Hi"', "valid JSON"),
    ],
)
def test_an_item_that_cannot_be_shown_is_refused_with_its_line(tmp_path, line, text):
    path = tmp_path / "items.jsonl"
    path.write_bytes(b'{"id": "0", "prompt": "Hi", "answers": ["x", "y"]}\n\n' + line + b"\n")
    with pytest.raises(ValueError, match=f"line 3.*{text}"):
        read_items(path)


def test_an_id_twice_and_an_empty_file_are_refused(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_bytes(b'{"id": "0", "prompt": "Hi", "answers": ["x", "y"]}\n' * 2)
    with pytest.raises(ValueError, match="line 2: id: .* '0' again"):
        read_items(path)
    path.write_bytes(b"\n")
    with pytest.raises(ValueError, match="at least one item"):
        read_items(path)
