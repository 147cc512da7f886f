"""`tinyllm generate`."""

import contextlib
import io
import json
import shutil
import struct
import sys
import types

import pytest

from tinyllm.cli.main import main
from tinyllm.tokenizers import ByteTokenizer


def output(capsys, *words):
    capsys.readouterr()
    assert main(["generate", *map(str, words)]) == 0
    return capsys.readouterr()


def give_input(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))


def test_a_seed_repeats_the_text(trained, capsys):
    words = trained, "--prompt", "The ", "--max-new-tokens", 30, "--seed"
    first = output(capsys, *words, 1).out
    assert first.startswith("The ") and len(first) > 10
    assert output(capsys, *words, 1).out == first
    assert output(capsys, *words, 2).out != first


def test_int8_weights_write_a_text_too(trained, capsys):
    words = trained, "--prompt", "The ", "--max-new-tokens", 20, "--temperature", 0, "--int8"
    text = output(capsys, *words).out
    assert text.startswith("The ") and len(text) > 10 and output(capsys, *words).out == text


def test_without_a_seed_it_is_that_of_every_command(trained, capsys):
    words = trained, "--prompt", "The ", "--max-new-tokens", 20
    assert output(capsys, *words).out == output(capsys, *words, "--seed", 1337).out
    assert output(capsys, *words).out == output(capsys, *words, "--temperature", 0.7).out


@pytest.fixture(scope="module")
def chat_model(base, tmp_path_factory):
    """The folder of a model that was tuned to answer in bytes, a little; do not write into it."""
    folder = tmp_path_factory.mktemp("runs") / "chat"
    chats = folder.with_suffix(".jsonl")
    chats.write_text("".join(json.dumps({"prompt": f"Say {i}", "completion": "ok"}) + "\n" for i in range(8)))
    assert main(["finetune", str(base), str(chats), "--out", str(folder), "--max-steps", "60", "--learning-rate", "0.03"]) == 0
    return folder


def test_a_model_of_conversations_answers_and_goes_on_with_the_text_if_that_is_asked_for(chat_model, capsys):
    words = chat_model, "--prompt", "Say 3", "--temperature", 0, "--max-new-tokens", 8
    assert output(capsys, *words).out == "ok\n"
    assert output(capsys, *words, "--echo").out == "Say 3\nok\n"
    assert output(capsys, *words, "--beams", 2).out == "ok\n"
    assert output(capsys, *words, "--raw").out.startswith("Say 3")
    assert output(capsys, chat_model / "model", *words[1:]).out == "ok\n"  # the folder of the model alone knows it too
    assert output(capsys, *words, "--num-samples", 2).out == "--- 1 of 2\nok\n--- 2 of 2\nok\n"


def test_a_model_that_only_has_the_tokens_of_a_chat_goes_on_with_the_text(run_copy, chat_model, capsys):
    shutil.rmtree(run_copy / "model")
    shutil.copytree(chat_model / "model", run_copy / "model")  # as quickstart's base model: pre-trained with these tokens
    assert output(capsys, run_copy, "--prompt", "Say 3", "--temperature", 0, "--max-new-tokens", 8).out.startswith("Say 3")


def test_samples_are_numbered_and_the_prompt_can_be_left_out(trained, capsys):
    shown = output(capsys, trained, "--prompt", "The ", "--num-samples", 2, "--no-echo", "--max-new-tokens", 5, "--seed", 1).out
    assert shown.startswith("--- 1 of 2\n") and "\n--- 2 of 2\n" in shown
    assert "The " not in shown


def test_beam_search_finds_one_text(trained, capsys, fails):
    words = trained, "--prompt", "The ", "--beams", 2, "--max-new-tokens", 6
    assert output(capsys, *words).out == output(capsys, *words).out
    assert "beam search finds one text" in fails("generate", *words, "--num-samples", 2)


def test_the_prompt_comes_from_the_input_whatever_its_bytes(trained, monkeypatch, capsys):
    give_input(monkeypatch, b"The \xff\xfe\n")
    assert output(capsys, trained, "--prompt", "-", "--max-new-tokens", 3, "--temperature", 0).out.startswith("The \ufffd\ufffd")


def test_a_prompt_longer_than_the_context_says_what_is_dropped(trained, capsys):
    shown = output(capsys, trained, "--prompt", "The number " * 5, "--max-new-tokens", 2)
    assert shown.err == "tinyllm: note: the prompt has 55 tokens and the model's context holds 16: its first 41 were dropped\n"
    assert shown.out.startswith("The number The")


def test_what_was_dropped_is_told_behind_the_text_not_in_its_middle(trained, capsys):
    capsys.readouterr()
    with contextlib.redirect_stderr(sys.stdout):
        assert main(["generate", str(trained), "--prompt", "The number " * 5, "--max-new-tokens", "2", "--temperature", "0"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("tinyllm: note: the prompt has 55 tokens")


def test_a_text_that_outgrows_the_context_goes_on_and_says_so(trained, capsys):
    shown = output(capsys, trained, "--prompt", "The", "--max-new-tokens", 60, "--seed", 1)
    assert shown.err.count("outgrew the context of 16 tokens") == 1


def test_a_stop_string_ends_the_text(trained, capsys):
    words = trained, "--prompt", "The ", "--max-new-tokens", 12, "--seed", 1, "--no-echo"
    whole = output(capsys, *words).out
    assert output(capsys, *words, "--stop", whole[3]).out == whole[: whole.index(whole[3])] + "\n"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--top-p", "3"], "top_p must be a number above 0 and at most 1 or None, got 3.0"),
        (["--temperature", "hot"], "--temperature: got 'hot', expected a number"),
        (["--num-samples", "0"], "--num-samples is 0"),
        (["--seed", "-1"], "--seed is -1"),
        (["--stop-tokens", "99999"], "token id 99999; the model's vocabulary has"),
        (["--tempereture", "1"], "did you mean --temperature?"),
    ],
)
def test_settings_that_make_no_sense_are_refused(trained, words, fault, fails):
    assert fault in fails("generate", trained, *words)


def test_a_model_that_is_not_there_is_refused(tmp_path, fails):
    assert "does not exist" in fails("generate", tmp_path / "nowhere")
    assert "holds no model" in fails("generate", tmp_path)


def test_a_tokenizer_of_another_model_is_refused(run_copy, fails):
    ByteTokenizer().save(run_copy / "model")
    line = fails("generate", run_copy)
    assert "tokenizer.json" in line and "the tokenizer these weights were trained with" in line


def test_a_missing_tokenizer_is_refused(run_copy, fails):
    (run_copy / "model" / "tokenizer.json").unlink()
    assert "tokenizer" in fails("generate", run_copy)


def test_weights_with_lying_sizes_are_refused(run_copy, fails):
    path = run_copy / "model" / "model.safetensors"
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    name = next(name for name in header if name != "__metadata__")
    header[name]["shape"][0] *= 1000
    lying = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(lying)) + lying + content[8 + size :])
    line = fails("generate", run_copy)
    assert "model.safetensors" in line and name in line


def test_torn_weights_are_refused(run_copy, fails):
    path = run_copy / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "model.safetensors" in fails("generate", run_copy)


def test_a_torn_checkpoint_is_passed_over_with_a_warning(run_copy, capsys):
    shutil.rmtree(run_copy / "model")
    (run_copy / "checkpoints" / "step-00000004" / "model" / "model.safetensors").write_bytes(b"torn")
    shown = output(capsys, run_copy, "--max-new-tokens", 2, "--seed", 1)
    assert shown.err.startswith("tinyllm: warning: skipping checkpoint step-00000004")
    assert shown.err.count("\n") == 1
