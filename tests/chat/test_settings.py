"""Facts about what a chat should know of its model: as much of a conversation as it learned from, and what to ask."""

import pytest

from tinyllm.chat import ChatSettings, newest_turns, read_chat_settings
from tinyllm.storage import FormatError


def message(role, text):
    return {"role": role, "content": text}


TALK = [
    message("system", "Be brief."),
    message("user", "12*7?"),
    {**message("assistant", ""), "tool_call": "12*7"},
    message("tool", "84"),
    message("assistant", "84"),
    message("user", "Thanks"),
    message("assistant", "You are welcome."),
    message("user", "And 3*3?"),
]


def test_the_newest_turns_are_whole_and_the_system_message_stays():
    assert newest_turns(TALK, 1) == [TALK[0], TALK[7]]
    assert newest_turns(TALK, 2) == [TALK[0], *TALK[5:]]
    assert newest_turns(TALK, 3) == newest_turns(TALK, 9) == newest_turns(TALK, None) == TALK
    assert newest_turns(TALK[1:], 1) == TALK[7:]


def test_a_call_in_the_newest_turn_stays_with_its_question():
    assert newest_turns(TALK[:4], 1) == TALK[:4]


def test_it_is_read_as_it_was_saved_and_a_folder_without_it_says_nothing(tmp_path):
    assert read_chat_settings(tmp_path) == ChatSettings(turns=None, questions=())
    settings = ChatSettings(turns=1, questions=("What is 12 times 7?", "Sort 3 1 9"))
    settings.save(tmp_path)
    assert read_chat_settings(tmp_path) == settings


@pytest.mark.parametrize("content", ['{"turns": 0, "questions": []}', '{"turns": "1", "questions": []}', '{"turns": 1}', "["])
def test_another_file_of_that_name_is_refused(tmp_path, content):
    (tmp_path / "chat.json").write_text(content)
    with pytest.raises(FormatError, match=r"chat\.json"):
        read_chat_settings(tmp_path)


def test_a_chat_has_at_least_the_message_to_answer():
    with pytest.raises(ValueError, match="turns is 0; expected at least 1"):
        ChatSettings(turns=0)
