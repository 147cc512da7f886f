"""The /commands of a chat."""

import json

import pytest

from tinyllm.chat.conversation import COMMANDS, Conversation
from tinyllm.data import read_conversations
from tinyllm.decoding import GenerationConfig


def assistant(text):
    return [{"role": "assistant", "content": text}]


def talked(**settings):
    conversation = Conversation(GenerationConfig(), **settings)
    call = {"role": "assistant", "content": "", "tool_call": "1"}
    conversation.add("one", [call, {"role": "tool", "content": "1"}, *assistant("1")])
    conversation.add("two", assistant("2"))
    return conversation


def roles(conversation):
    return [message["role"] for message in conversation.with_message("next")]


def test_messages_follow_the_system_message_and_nothing_is_remembered_before_the_answer():
    conversation = talked(system="Be brief.")
    assert roles(conversation) == ["system", "user", "assistant", "tool", "assistant", "user", "assistant", "user"]
    assert roles(conversation) == roles(conversation)


def test_undo_takes_back_a_turn_with_its_calls():
    conversation = talked()
    assert conversation.command("/undo") == "taken back: two"
    assert conversation.command("/undo") == "taken back: one" and roles(conversation) == ["user"]
    with pytest.raises(ValueError, match="/undo: nothing has been said yet"):
        conversation.command("/undo")


def test_reset_forgets_what_was_said_and_keeps_the_rest():
    conversation = talked(system="Be brief.")
    conversation.command("/temperature 0.5")
    conversation.command("/reset")
    assert roles(conversation) == ["system", "user"] and conversation.config.temperature == 0.5


def test_the_system_message_can_be_set_and_taken_away():
    conversation = talked()
    conversation.command("/system  Be brief. ")
    assert conversation.with_message("x")[0] == {"role": "system", "content": "Be brief."}
    conversation.command("/system")
    assert roles(conversation)[0] == "user"


def test_the_temperature_is_shown_and_set():
    conversation = talked()
    assert conversation.command("/temperature") == "the temperature is 1"
    assert conversation.command("/temperature 0") == "the temperature is 0" and conversation.config.temperature == 0
    complaints = {"hot": "got 'hot', expected a number", "-1": "temperature must be .* got -1.0", "nan": "got nan"}
    for wrong, complaint in complaints.items():
        with pytest.raises(ValueError, match=complaint):
            conversation.command(f"/temperature {wrong}")
    assert conversation.config.temperature == 0


def test_a_saved_conversation_is_one_that_can_be_trained_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    conversation = talked(system="Be brief.")
    assert conversation.command("/save chat 1.jsonl") == "saved 7 messages to chat 1.jsonl"
    ((first, *_),), report = read_conversations(tmp_path / "chat 1.jsonl")
    assert first["content"] == "Be brief." and report.n_skipped == 0
    conversation.add("é\ud800", assistant("3"))
    conversation.command("/save 'chat 1.jsonl'")  # its own file is written again
    assert len(json.loads((tmp_path / "chat 1.jsonl").read_text())["messages"]) == 9


def test_what_cannot_be_saved_is_refused(tmp_path):
    conversation = talked()
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="mine.txt exists already; choose another name"):
        conversation.command(f"/save {tmp_path}/mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "precious"
    with pytest.raises(ValueError, match="/save: expected a file's name"):
        conversation.command("/save")
    with pytest.raises(OSError):
        conversation.command(f"/save {tmp_path}/no/such/folder")
    with pytest.raises(ValueError, match="/save: nothing has been said yet"):
        Conversation(GenerationConfig()).command(f"/save {tmp_path}/new")


def test_quit_ends_and_help_names_every_command():
    conversation = talked()
    assert not conversation.ended and conversation.command("/quit") == "" and conversation.ended
    shown = conversation.command("/help")
    assert all(f"/{name}" in shown for name in COMMANDS) and len(shown.splitlines()) == len(COMMANDS)


def test_wrong_commands_are_explained():
    for line, complaint in [
        ("/temperture 1", "unknown command /temperture; did you mean /temperature?"),
        ("/xyz", "unknown command /xyz; /help shows the commands"),
        ("/", "unknown command /; /help shows the commands"),
        ("/quit now", "/quit stands alone, got 'now' behind it"),
    ]:
        with pytest.raises(ValueError) as caught:
            talked().command(line)
        assert complaint in str(caught.value)
