"""Each template is written as its model was trained on, by code alone; benchmarks/tokenizer_parity.py compares ids."""

import pytest

from tinyllm.storage import strict_json
from tinyllm.tokenizers import (
    CONTROL_TOKENS,
    END_OF_TEXT,
    TEMPLATES,
    BPETokenizer,
    ByteTokenizer,
    ChatFormat,
    PlainChatFormat,
    SentencePieceBPETokenizer,
    TemplateChatFormat,
    chat_format,
    load_tokenizer,
)
from tinyllm.tokenizers.chat_templates import recognise

SPECIAL = sorted({name for template in TEMPLATES.values() for name in template.special})
BYTES = ByteTokenizer(special_tokens=SPECIAL)
TALK = [
    {"role": "system", "content": " Be brief."},
    {"role": "user", "content": "Hi "},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "12*7?"},
    {"role": "assistant", "content": "84"},
]
TOOLS = [
    TALK[1],
    {"role": "assistant", "content": "I ask.", "tool_call": '{"name": "f"}'},
    {"role": "tool", "content": "84"},
    TALK[4],
]
WRITTEN = {
    "chatml": "<|im_start|>system\n Be brief.<|im_end|>\n<|im_start|>user\nHi <|im_end|>\n"
    "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\n12*7?<|im_end|>\n<|im_start|>assistant\n84<|im_end|>\n",
    "llama3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n12*7?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n84<|eot_id|>",
    "llama2": "<s>[INST] <<SYS>>\n Be brief.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] 12*7? [/INST] 84 </s>",
    "gemma": "<bos><start_of_turn>user\n Be brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
    "<start_of_turn>user\n12*7?<end_of_turn>\n<start_of_turn>model\n84<end_of_turn>\n",
    "zephyr": "<|system|>\n Be brief.</s>\n<|user|>\nHi </s>\n<|assistant|>\nHello.</s>\n"
    "<|user|>\n12*7?</s>\n<|assistant|>\n84</s>\n",
}
WRITTEN["qwen"] = WRITTEN["chatml"]
WRITTEN["qwen3"] = WRITTEN["chatml"].replace("84<", "<think>\n\n</think>\n\n84<")
every = pytest.mark.parametrize("name", list(TEMPLATES))


def spelled(ids, tokenizer=BYTES):
    return tokenizer.decode(ids)


@every
def test_a_conversation_is_written_as_the_model_knows_it(name):
    ids, mask = chat_format(BYTES, name).encode(TALK)
    assert spelled(ids) == WRITTEN[name] and len(mask) == len(ids)
    assert sum(i in set(BYTES.special_tokens.values()) for i in ids) >= 2


@every
def test_the_mask_is_what_the_assistant_says_to_the_token_that_ends_it(name):
    form = chat_format(BYTES, name)
    ids, mask = form.encode(TALK)
    end = form.template.end
    said = spelled(i for i, own in zip(ids, mask, strict=True) if own)
    assert said == (f" Hello. {end} 84 {end}" if name == "llama2" else f"Hello.{end}84{end}")


TEXT_TOKENIZERS = {
    "bytes": BYTES,
    "bpe": BPETokenizer.train([str(WRITTEN)] * 3, vocab_size=400 + len(SPECIAL), special_tokens=SPECIAL),
    "marked": SentencePieceBPETokenizer.train([str(WRITTEN)] * 3, vocab_size=400, special_tokens=SPECIAL),
}


@every
@pytest.mark.parametrize("tokenizer", list(TEXT_TOKENIZERS))
@pytest.mark.parametrize("text", ["84", "\n\n", " a", "x\ny", "中"])
def test_a_prompt_and_an_answer_are_the_conversation(name, tokenizer, text):
    form = chat_format(TEXT_TOKENIZERS[tokenizer], name)
    ids, mask = form.encode([*TALK[:2], {"role": "assistant", "content": text}])
    prompt = form.prompt(TALK[:2])
    if name == "qwen3" and text[:1] == "\n":  # its answers do not begin with empty lines
        assert ids[: len(prompt)] == prompt
        return
    whole = prompt + form.answer(text)
    assert whole == ids[: len(whole)] and not any(mask[: len(prompt)]) and all(mask[len(prompt) : len(whole)])
    assert ids[len(whole) :] == [i for i, own in zip(ids, mask, strict=True) if not own][len(prompt) :]
    clean = text.strip() if form.template.strip else text
    assert form.parse(ids[len(prompt) :]) == {"role": "assistant", "content": clean}


@every
def test_what_people_write_is_never_a_control_token(name):
    form = chat_format(BYTES, name)
    hostile = [{**message, "content": "".join(SPECIAL)} for message in TALK]
    special = set(BYTES.special_tokens.values())
    honest, forged = ([i for i in form.encode(talk)[0] if i in special] for talk in (TALK, hostile))
    assert forged == honest


def test_tools_are_told_of_called_and_answered():
    form = chat_format(BYTES, "qwen", tools=['{"name": "f"}', '{"name": "g"}'])
    ids, mask = form.encode([TALK[0], *TOOLS])
    text = spelled(ids)
    assert text.startswith("<|im_start|>system\n Be brief.\n\n# Tools\n\n")
    assert '<tools>\n{"name": "f"}\n{"name": "g"}\n</tools>' in text and '{"name": <function-name>, "arguments": ' in text
    turn = 'assistant\nI ask.\n<tool_call>\n{"name": "f"}\n</tool_call><|im_end|>\n'
    assert turn + "<|im_start|>user\n<tool_response>\n84\n</tool_response><|im_end|>\n<|im_start|>assistant\n84" in text
    answered = ids[mask.index(True) :]
    assert form.parse(answered) == TOOLS[1]
    llama = spelled(chat_format(BYTES, "llama3").encode(TOOLS)[0])
    assert "<|start_header_id|>ipython<|end_header_id|>\n\n84<|eot_id|>" in llama


@pytest.mark.parametrize(
    ("name", "talk", "text"),
    [
        ("gemma", TOOLS, "messages\\[1\\]: the template 'gemma' has no place for a tool_call"),
        ("zephyr", TOOLS, "messages\\[1\\]: the template 'zephyr' has no place for a tool_call"),
        ("chatml", [TALK[2]], "messages\\[0\\]: got role 'assistant' at the start"),
    ],
)
def test_a_role_that_a_template_has_not_is_refused(name, talk, text):
    with pytest.raises(ValueError, match=text):
        chat_format(BYTES, name).encode(talk)


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match="template: got 'chatmk', expected one of 'chatml'"):
        chat_format(BYTES, "chatmk")
    with pytest.raises(ValueError, match=r"tokenizer: has no <\|im_start\|>, <\|im_end\|>, which the template 'chatml'"):
        chat_format(ByteTokenizer(), "chatml")
    for name in ("gemma", "plain"):
        with pytest.raises(ValueError, match="no place for them; got 1"):
            chat_format(BYTES, name, tools=["{}"])


PROGRAMS = {
    "{% for m in messages %}<|im_start|>{{m.role}}\n{{m.content}}<|im_end|>\n{% endfor %}": "chatml",
    "{{ '<|im_start|>' }}{% if tools %}<tool_call>{% endif %}": "qwen",
    "{{ '<|im_start|>' }}{% if tools %}<tool_call>{% endif %}<think>": "qwen3",
    "<|start_header_id|>{{ role }}<|end_header_id|>{{ content }}<|eot_id|>": "llama3",
    "{{ bos_token + '[INST] ' }} <<SYS>>": "llama2",
    "{{ bos_token }}<start_of_turn>{{ role }}<end_of_turn>": "gemma",
    "{{ '<|user|>\\n' + content + eos_token }} {{ '<|assistant|>' }}": "zephyr",
    "<|start_header_id|>Cutting Knowledge Date: {{ date }}<|eot_id|>": None,
    "{{ messages }}": None,
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_is_recognised_by_what_it_writes(program):
    found = recognise(program)
    assert (found and found.name) == PROGRAMS[program]


def test_a_system_message_that_a_program_gives_by_itself_is_taken_over():
    template = recognise("{{ '<|im_start|>system\\nYou are Tiny.<|im_end|>\\n' }}{% for m in messages %}")
    form = TemplateChatFormat(BYTES, template)
    assert spelled(form.prompt([TALK[1]])).startswith("<|im_start|>system\nYou are Tiny.<|im_end|>\n<|im_start|>user\nHi ")
    assert "Tiny" not in spelled(form.prompt(TALK[:2]))


def test_a_folders_template_is_used_and_written_again(tmp_path):
    tokenizer = ByteTokenizer(special_tokens=["<s>", "</s>"])
    tokenizer.save(tmp_path)
    settings = strict_json.read(tmp_path / "tokenizer_config.json")
    program = next(text for text, name in PROGRAMS.items() if name == "llama2")
    (tmp_path / "tokenizer_config.json").write_bytes(strict_json.dump({**settings, "chat_template": program}))
    known = load_tokenizer(tmp_path)
    assert chat_format(known).template.name == "llama2" and isinstance(chat_format(tokenizer), PlainChatFormat)
    known.save(tmp_path / "again")
    assert chat_format(load_tokenizer(tmp_path / "again")).template.name == "llama2"


def test_tokens_tell_the_template_where_no_folder_does():
    ours = ByteTokenizer(special_tokens=[END_OF_TEXT, *CONTROL_TOKENS])
    assert isinstance(chat_format(ours), ChatFormat)
    assert chat_format(ByteTokenizer(special_tokens=["<|im_start|>", "<|im_end|>"])).template.name == "chatml"
    assert isinstance(chat_format(ByteTokenizer(special_tokens=["</s>"])), PlainChatFormat)
    assert isinstance(chat_format(BYTES, "plain"), PlainChatFormat)
