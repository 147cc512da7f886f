"""Which tokens begin and end a text is said by the files of a folder, ours as others'; transformers stops where we stop.

What transformers made of a chat model that we saved: fixtures/make_chat_model.py.
"""

import json

import numpy as np
import pytest
from fixtures import make_chat_model as made

from tinyllm.chat import reply
from tinyllm.decoding import GenerationConfig, encode_prompt, generate, generate_text, stream_text
from tinyllm.decoding.stream import stop_tokens
from tinyllm.models import GPT, GPTConfig, RewardModel, load_tokenizer_for
from tinyllm.storage import FormatError
from tinyllm.tokenizers import CONTROL_TOKENS, ByteTokenizer, ChatFormat, chat_format, load_tokenizer
from tinyllm.tokenizers.special import CHAT_TEMPLATE

EXPECTED = json.loads(made.EXPECTED.read_text(encoding="utf-8"))
CONFIG = GPTConfig(vocab_size=260, block_size=48, n_layers=1, n_heads=2, d_model=8, init_std=0.5)
EOS = ByteTokenizer(special_tokens=["[BOS]", "[EOS]", "[END]"])  # 256, 257, 258


# ---- a chat model of ours, in transformers


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    made.save_model(folder)
    return folder


def test_the_folder_is_the_one_that_transformers_read(chat_folder):
    assert made.digests(chat_folder) == EXPECTED["files"]


def test_the_template_gives_transformers_our_ids(chat_folder):
    form = ChatFormat(load_tokenizer_for(chat_folder))
    for messages, ids, whole in zip(made.conversations(), EXPECTED["ids"], EXPECTED["whole"], strict=True):
        assert form.prompt(messages) == ids
        assert form.encode([*messages, made.ANSWER])[0] == whole


def test_transformers_writes_what_we_write_and_stops_where_we_stop(chat_folder):
    model, tokenizer = GPT.from_pretrained(chat_folder), load_tokenizer_for(chat_folder)
    form, ends = ChatFormat(tokenizer), set()
    for messages, expected in zip(made.conversations(), EXPECTED["generated"], strict=True):
        config = GenerationConfig(made.MAX_NEW_TOKENS, temperature=0, stop_tokens=tokenizer.stop_ids)
        assert generate(model, [form.prompt(messages)], config=config).tokens == [expected]
        *_, last = reply(model, tokenizer, messages, config=GenerationConfig(made.MAX_NEW_TOKENS, temperature=0), max_calls=0)
        assert (last.finish_reason == "length") == (expected[-1] not in tokenizer.stop_ids)
        unfinished = "\ufffd"  # a character cut in two at the end is not shown
        assert last.messages[-1]["content"].rstrip(unfinished) == form.parse(expected)["content"].rstrip(unfinished)
        ends.add(expected[-1] if expected[-1] in tokenizer.stop_ids else None)
    assert len(ends) == 4  # of a turn, by another's turn in two ways, and none


def test_a_text_ends_where_the_model_gives_the_word_to_another(chat_folder):
    tokenizer = load_tokenizer_for(chat_folder)
    names = {text for text, i in tokenizer.special_tokens.items() if i in tokenizer.stop_ids}
    assert names == {"<|endoftext|>", *CONTROL_TOKENS} - {"<|call|>"}
    assert tokenizer.eos_id == tokenizer.bos_id == tokenizer.special_tokens["<|endoftext|>"]


def test_a_base_model_has_one_end_and_no_template(tmp_path):
    GPT(CONFIG, rng=np.random.default_rng(0)).save_pretrained(tmp_path, ByteTokenizer())
    contents = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert contents["config"]["eos_token_id"] == contents["generation_config"]["eos_token_id"] == 256
    assert contents["tokenizer_config"]["eos_token"] == contents["tokenizer_config"]["bos_token"] == "<|endoftext|>"
    assert "chat_template" not in contents["tokenizer_config"]


def test_a_tokenizer_without_an_end_says_so(tmp_path):
    GPT(CONFIG, rng=None).save_pretrained(tmp_path, ByteTokenizer(special_tokens=()))
    contents = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert contents["config"]["eos_token_id"] is contents["generation_config"]["eos_token_id"] is None
    assert contents["tokenizer_config"]["eos_token"] is None
    assert load_tokenizer_for(tmp_path).stop_ids == ()


def test_a_reward_model_keeps_the_ids_too(tmp_path):
    trunk = GPT(CONFIG, rng=np.random.default_rng(0))
    RewardModel(trunk, rng=np.random.default_rng(1)).save_pretrained(tmp_path, ByteTokenizer())
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] == 256


# ---- folders of others


@pytest.fixture
def folder(tmp_path):
    """A model whose tokenizer has [BOS], [EOS] and [END], of which no file says anything."""
    GPT(CONFIG, rng=np.random.default_rng(0)).save_pretrained(tmp_path, EOS)
    for name in ("tokenizer_config.json", "generation_config.json"):
        (tmp_path / name).unlink()
    write(tmp_path, "config.json", eos_token_id=None, bos_token_id=None)
    return tmp_path


def write(folder, name, **changes):
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changes))


def test_a_folder_that_says_nothing_has_no_end(folder):
    tokenizer = load_tokenizer_for(folder)
    assert (tokenizer.eos_id, tokenizer.bos_id, tokenizer.stop_ids) == (None, None, ())


@pytest.mark.parametrize(
    ("files", "eos_id", "bos_id", "stop_ids"),
    [
        ({"config": {"eos_token_id": 257}}, 257, 257, (257,)),
        ({"config": {"eos_token_id": [257, 258], "bos_token_id": 256}}, 257, 256, (257, 258)),
        ({"generation_config": {"eos_token_id": 258}}, 258, 258, (258,)),
        ({"config": {"eos_token_id": 257}, "generation_config": {"eos_token_id": [258, 257]}}, 257, 257, (257, 258)),
        ({"tokenizer_config": {"eos_token": "[EOS]", "bos_token": "[BOS]"}}, 257, 256, (257,)),
        ({"tokenizer_config": {"eos_token": {"content": "[END]", "lstrip": False}}}, 258, 258, (258,)),
        ({"special_tokens_map": {"eos_token": "[EOS]"}}, 257, 257, (257,)),
        ({"special_tokens_map": {"eos_token": "[EOS]"}, "tokenizer_config": {"eos_token": "[END]"}}, 258, 258, (258,)),
        ({"tokenizer_config": {"eos_token": "[END]"}, "config": {"eos_token_id": 257}}, 258, 258, (258, 257)),
        ({"config": {"eos_token_id": 50256, "bos_token_id": 50256}}, None, None, ()),  # GPT-2's own, which this one lacks
        ({"config": {"eos_token_id": -1}}, None, None, ()),
        ({"config": {"eos_token_id": 259}}, None, None, (259,)),  # the model has it, the tokenizer does not
        ({"config": {"eos_token_id": 10}}, 10, 10, (10,)),  # an ordinary token can be the end as well
        ({"config": {"eos_token_id": [10, 257]}}, 257, 257, (257, 10)),
        ({"tokenizer_config": {"eos_token": "[NO]"}}, None, None, ()),
    ],
)
def test_the_ids_that_a_folder_says_are_known_to_its_tokenizer(folder, files, eos_id, bos_id, stop_ids):
    for name, content in files.items():
        write(folder, f"{name}.json", **content)
    tokenizer = load_tokenizer_for(folder)
    assert (tokenizer.eos_id, tokenizer.bos_id, tokenizer.stop_ids) == (eos_id, bos_id, stop_ids)
    assert stop_tokens(tokenizer, GenerationConfig(stop_tokens=(3,))) == (3, *stop_ids)


@pytest.mark.parametrize("said", [257, [257, 258]])
def test_generate_stream_and_chat_stop_at_what_config_json_says(folder, said):
    """`[EOS]` twenty times is what came when no file was asked."""
    write(folder, "config.json", eos_token_id=said)
    model, tokenizer = GPT.from_pretrained(folder), load_tokenizer_for(folder)
    model.tokens.weight.data[:] = 0
    for end in np.atleast_1d(said):
        model.norm.bias.data[:], model.tokens.weight.data[end] = 1, 1  # writes this token and no other
        for write_text in (generate_text, lambda *given, **more: "".join(stream_text(*given, **more))):
            assert write_text(model, tokenizer, "a", temperature=0, max_new_tokens=20) == ""
        *_, last = reply(model, tokenizer, [{"role": "user", "content": "a"}], config=GenerationConfig(20, temperature=0))
        assert (last.text, last.finish_reason) == ("", "stop")
        model.tokens.weight.data[end] = 0
    assert encode_prompt(tokenizer, "") == [257]
    assert chat_format(tokenizer).prompt([{"role": "user", "content": "a"}])[0] == 257


def test_what_a_folder_says_survives_saving_and_new_special_tokens(folder, tmp_path):
    write(folder, "config.json", eos_token_id=[258, 10], bos_token_id=256)
    tokenizer = load_tokenizer_for(folder)
    assert tokenizer.with_special_tokens(["<x>"]).stop_ids == (258, 10)
    GPT.from_pretrained(folder).save_pretrained(tmp_path / "again", tokenizer)
    again = load_tokenizer_for(tmp_path / "again")
    assert (again.eos_id, again.bos_id, again.stop_ids) == (258, 256, (258, 10))
    tokenizer.save(tmp_path / "alone")
    alone = load_tokenizer(tmp_path / "alone")
    assert (alone.eos_id, alone.bos_id) == (258, 256)
    assert alone.fingerprint() == tokenizer.fingerprint()


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_chat_template_that_is_not_ours_is_said(folder, name):
    if name == "chat_template.jinja":
        (folder / name).write_text(CHAT_TEMPLATE + "\n")
        load_tokenizer_for(folder)
        (folder / name).write_text("{{ messages[0]['content'] }}")
    else:
        write(folder, name, chat_template=CHAT_TEMPLATE)
        load_tokenizer_for(folder)
        write(folder, name, chat_template=[{"name": "default", "template": "{{ 1 }}"}])
    with pytest.warns(UserWarning, match=f"{name}: its chat template is not known here"):
        load_tokenizer_for(folder)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("config", {"eos_token_id": "257"}, "config.json: eos_token_id: expected null or an integer or a list, each an inte"),
        ("config", {"eos_token_id": 257.0}, "config.json: eos_token_id: expected null or an integer"),
        ("config", {"bos_token_id": [True]}, "config.json: bos_token_id: expected null or an integer"),
        ("generation_config", {"eos_token_id": {"a": 1}}, "generation_config.json: eos_token_id: expected null or an integer"),
        ("tokenizer_config", {"eos_token": 257}, "tokenizer_config.json: eos_token: expected null or a string or an object"),
        ("tokenizer_config", {"eos_token": {"id": 1}}, "tokenizer_config.json: eos_token.content: expected a string, found None"),
        ("tokenizer_config", {"add_prefix_space": True}, "tokenizer_config.json: add_prefix_space: expected false"),
    ],
)
def test_an_end_that_is_no_token_is_refused_by_name(folder, name, content, complaint):
    write(folder, f"{name}.json", **content)
    with pytest.raises(FormatError, match=complaint):
        load_tokenizer_for(folder)


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 2}'])
def test_a_damaged_file_beside_the_tokenizer_is_refused(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(FormatError, match=name):
        load_tokenizer_for(folder)
