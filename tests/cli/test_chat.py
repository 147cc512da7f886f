"""`tinyllm chat`."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from interrupts import heed_ctrl_c

import tinyllm
from tinyllm.chat import ChatSettings, Dropped, Piece, Reply, ToolCall
from tinyllm.chat.conversation import Conversation
from tinyllm.cli.chat import Screen, _introduce, answer
from tinyllm.cli.main import main
from tinyllm.decoding import GenerationConfig
from tinyllm.models import GPT, GPTConfig
from tinyllm.tokenizers import CONTROL_TOKENS, ByteTokenizer
from tinyllm.tokenizers.chat import check_messages

TOKENIZER = ByteTokenizer().with_special_tokens(CONTROL_TOKENS)


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory):
    """The folder of a model with the control tokens and random weights."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    config = GPTConfig(vocab_size=TOKENIZER.vocab_size, block_size=64, n_layers=1, n_heads=2, d_model=16, init_std=0.2)
    GPT(config, rng=np.random.default_rng(0)).save_pretrained(folder, tokenizer=TOKENIZER)
    return folder


@pytest.fixture
def chat(chat_model, monkeypatch, capsys):
    """chat(lines, *words): what the command writes when these lines are its input."""

    def run(lines, *words):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        capsys.readouterr()
        assert main(["chat", str(chat_model), *map(str, words)]) == 0
        return capsys.readouterr()

    return run


@pytest.fixture
def replies(monkeypatch):
    """replies(*events of each answer): the model's answers from now on; returns the list of conversations it was given."""

    def use(*answers):
        asked, left = [], iter(answers)

        def reply(model, tokenizer, messages, **settings):
            asked.append(messages)
            events = next(left)
            if isinstance(events, Exception):
                raise events
            return iter(events)

        monkeypatch.setattr("tinyllm.chat.reply", reply)
        return asked

    return use


def saying(text, reason="stop"):
    return [Piece(text), Reply([{"role": "assistant", "content": text}], reason)]


def test_each_line_is_a_message_and_the_output_is_the_answers(chat, replies):
    asked = replies(saying("Hello!"), saying("Fine.\n"), [Reply([{"role": "assistant", "content": ""}], "stop")])
    shown = chat(["Hi", "", "How are you?", "And now?"])
    assert (shown.out, shown.err) == ("Hello!\nFine.\n\n", "")
    assert [message["content"] for message in asked[-1]] == ["Hi", "Hello!", "How are you?", "Fine.\n", "And now?"]


def test_a_tool_call_is_shown_on_a_line_of_its_own(chat, replies):
    final = Reply([{"role": "assistant", "content": "x"}], "stop")
    first = [ToolCall("12*7", "84"), Piece("It is 84."), final]
    replies(first, [Piece("Let me see: "), ToolCall("1/0", "error: division by zero"), final])
    assert chat(["a", "b"]).out.splitlines() == [
        "[calculator: 12*7 = 84]", "It is 84.", "Let me see: ", "[calculator: 1/0: error: division by zero]", "",
    ]  # fmt: skip


def test_what_a_model_writes_cannot_steer_the_terminal(chat, replies):
    replies([Piece("\x1b[2Jred\u202e"), ToolCall("\x1b]0;x\x07", "\x9b1m"), Reply([], "stop")])
    shown = chat(["a"]).out
    assert not set(shown) & set("\x1b\x07\x9b\u202e") and "[2Jred" in shown


def test_what_the_model_no_longer_sees_is_told_once(chat, replies):
    replies([Dropped(1), *saying("a")], [Dropped(1), *saying("b")], [Dropped(3), *saying("c")])
    shown = chat(["1", "2", "3"])
    assert shown.out == "a\nb\nc\n"
    assert shown.err.splitlines() == [
        "tinyllm: note: the context is full: the first turn is out of the model's sight",
        "tinyllm: note: the context is full: the first 3 turns are out of the model's sight",
    ]


def test_a_model_sees_as_many_turns_as_its_folder_says_or_as_the_user_wants(chat, replies, chat_model):
    def last_seen(*words):
        asked = replies(saying("a"), saying("b"), saying("c"))
        chat(["1", "2", "3"], *words)
        return [message["content"] for message in asked[-1]]

    assert last_seen() == ["1", "a", "2", "b", "3"]
    ChatSettings(turns=1).save(chat_model)
    try:
        assert last_seen() == ["3"] and last_seen("--turns", 2) == ["2", "b", "3"]
        loaded = tinyllm.load(chat_model)
        assert loaded.turns == 1
    finally:
        (chat_model / "chat.json").unlink()


def test_a_chat_begins_with_what_can_be_asked(capsys):
    screen = Screen(interactive=False)
    _introduce(screen, ("Sort 3 1 9", "Spell KVG"), turns=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["  Sort 3 1 9", "  Spell KVG"] and "says of others that it does not know" in lines[0]
    assert "does not see what was said before" in lines[3]
    _introduce(screen, (), turns=3)
    assert capsys.readouterr().out == "It sees the newest 3 turns of the conversation.\n"
    _introduce(screen, (), turns=None)
    assert capsys.readouterr().out == ""


def test_an_answer_that_did_not_end_by_itself_says_why(chat, replies):
    replies(saying("a", "length"), saying("b", "context"), saying("c", "calls"))
    notes = chat(["1", "2", "3"], "--max-new-tokens", 7).err.splitlines()
    assert notes[0].startswith("tinyllm: note: cut off after 7 tokens") and "context of 64 tokens was full" in notes[1]
    assert "called the calculator again and again" in notes[2]


def test_a_message_that_cannot_be_answered_is_forgotten_and_the_chat_goes_on(chat, replies):
    asked = replies(ValueError("messages: too long"), saying("ok"))
    shown = chat(["x" * 100, "y"])
    assert (shown.out, shown.err) == ("ok\n", "tinyllm: note: messages: too long\n") and len(asked[1]) == 1


def test_an_answer_that_was_stopped_keeps_its_tool_calls(replies):
    def interrupted():
        yield from (Piece("Let me see: "), ToolCall("12*7", "84"), ToolCall("1+1", "2"), Piece("It is"))
        raise KeyboardInterrupt

    replies(interrupted())
    conversation = Conversation(GenerationConfig(max_new_tokens=4))
    screen = Screen(interactive=True)
    answer(screen, conversation, "12 times 7?", talk=(GPT(GPTConfig(vocab_size=9, d_model=12), rng=None), None, None))
    assert conversation.messages == [
        {"role": "user", "content": "12 times 7?"},
        {"role": "assistant", "content": "Let me see: ", "tool_call": "12*7"}, {"role": "tool", "content": "84"},
        {"role": "assistant", "content": "", "tool_call": "1+1"}, {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "It is"},
    ]  # fmt: skip
    check_messages(conversation.with_message("And?"))


def test_commands_are_obeyed_and_two_slashes_begin_a_message(chat, replies, tmp_path):
    asked = replies(saying("a"), saying("b"), saying("c"))
    shown = chat(["/system Be brief.", "1", "/undo", "//2", f"/save {tmp_path}/s.jsonl", "/nope", "/temperature x", "/reset", "3",
                  "/quit", "4"], "--system", "Be long.")  # fmt: skip
    assert [[message["content"] for message in one] for one in asked] == [["Be brief.", text] for text in ("1", "/2", "3")]
    assert shown.err.count("tinyllm: note:") == 2 and "unknown command /nope" in shown.err
    assert "saved 3 messages" in shown.out and (tmp_path / "s.jsonl").exists()


def test_a_real_model_repeats_its_answer_with_the_seed(chat):
    first = chat(["Hi", "And?"], "--seed", 1, "--max-new-tokens", 12).out
    assert len(first) > 10 and chat(["Hi", "And?"], "--seed", 1, "--max-new-tokens", 12).out == first
    assert chat(["Hi", "And?"], "--seed", 2, "--max-new-tokens", 12).out != first
    plain = chat(["Hi", "And?"], "--max-new-tokens", 12).out
    assert plain == chat(["Hi", "And?"], "--seed", 1337, "--max-new-tokens", 12).out
    assert chat(["Hi"], "--int8", "--temperature", 0, "--max-new-tokens", 4).out


def test_a_message_longer_than_the_context_is_refused_by_a_real_model(chat):
    shown = chat(["x" * 100, "Hi"], "--seed", 1, "--max-new-tokens", 4)
    assert "messages: the last turn has 104 tokens, and the context has room for 60" in shown.err and shown.out


def test_bytes_that_are_no_text_are_a_message_too(chat_model):
    words = ["--seed", "1", "--max-new-tokens", "2"]
    done = subprocess.run([sys.executable, "-m", "tinyllm.cli.main", "chat", str(chat_model), *words], input=b"\xff\xfe\nHi",
                          capture_output=True, timeout=120)  # fmt: skip
    assert done.returncode == 0 and done.stdout.count(b"\n") >= 2 and b"cut off after 2 tokens" in done.stderr


def test_a_base_model_is_talked_to_in_plain_words_and_says_so(tmp_path, monkeypatch, capsys):
    config = GPTConfig(vocab_size=257, block_size=64, n_layers=1, n_heads=2, d_model=16)
    GPT(config, rng=np.random.default_rng(0)).save_pretrained(tmp_path / "base", tokenizer=ByteTokenizer())
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hi\n"))
    assert main(["chat", str(tmp_path / "base"), "--seed", "1", "--max-new-tokens", "5"]) == 0
    shown = capsys.readouterr()
    assert "note: this model was not trained on conversations" in shown.err and shown.out.endswith("\n")


def test_wrong_settings_are_refused(chat_model, tmp_path, fails):
    assert "--seed is -1" in fails("chat", chat_model, "--seed", "-1")
    assert "top_p must be a number above 0 and at most 1 or None, got 3.0" in fails("chat", chat_model, "--top-p", "3")
    assert "did you mean --temperature?" in fails("chat", chat_model, "--temperture", "1")
    assert "unknown option --n-beams" in fails("chat", chat_model, "--n-beams", "2")
    assert "holds no model" in fails("chat", tmp_path)


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, *words):
        import pty

        self.screen, inside = pty.openpty()
        environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm", "INPUTRC": os.devnull}
        self.process = subprocess.Popen([sys.executable, "-m", "tinyllm.cli.main", "chat", *map(str, words)], stdin=inside,
                                        preexec_fn=heed_ctrl_c,
                                        stdout=inside, stderr=inside, env=environment, start_new_session=True)  # fmt: skip
        os.close(inside)
        self.seen = ""

    def wait_for(self, text, *, seconds=60):
        """Read until `text` has come since the last call; returns what came."""
        import select

        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.screen], [], [], max(end - time.monotonic(), 0))
            assert ready, f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self.screen, 4096).decode("utf-8", "replace")
        before, self.seen = self.seen[: self.seen.index(text)], self.seen[self.seen.index(text) + len(text) :]
        return before

    def type(self, text):
        os.write(self.screen, text.encode())


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals there")
def test_in_a_terminal_there_are_prompts_commands_and_a_clean_end(chat_model):
    terminal = Terminal(chat_model, "--seed", "1", "--max-new-tokens", "9")
    try:
        assert "Write a message." in terminal.wait_for("you> ")
        terminal.type("Hi\r")
        terminal.wait_for("bot> ")
        terminal.wait_for("you> ")
        terminal.type("/undo\r")
        terminal.wait_for("taken back: Hi")
        terminal.wait_for("you> ")
        time.sleep(0.5)  # readline shows its prompt a moment before it listens
        os.kill(terminal.process.pid, signal.SIGINT)
        terminal.wait_for("Ctrl-C again, or Ctrl-D, ends the chat")
        terminal.wait_for("you> ")
        terminal.type("\x04")
        assert terminal.process.wait(timeout=30) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.screen)
