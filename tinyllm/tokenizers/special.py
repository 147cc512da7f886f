"""Tokens with a meaning: their usual names, and the files beside a tokenizer that say which ones a model uses.

A text ends where the model writes its end-of-text token. Which one that is, no tokenizer.json says: a folder says it in
tokenizer_config.json by name ("eos_token": "[EOS]"), in config.json and generation_config.json by id ("eos_token_id": 1, or a
list). Writing on past it is nonsense that looks like text, so all of them are read. A chat's turn ends at more: at <|end|>,
and at any token that gives the word to another.

`CHAT_TEMPLATE` writes a conversation as `chat.ChatFormat` does, for transformers' apply_chat_template, in its language Jinja.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tinyllm.storage import FormatError, strict_json, write_file
from tinyllm.tokenizers.added_tokens import either
from tinyllm.tokenizers.characters import to_bytes, to_text

END_OF_TEXT = "<|endoftext|>"
EOS_NAMES = (END_OF_TEXT, "</s>", "<eos>", "<|end_of_text|>")
CONTROL_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|call|>", "<|tool|>", "<|end|>")
TURN_ENDS = ("<|end|>", "<|user|>", "<|system|>", "<|tool|>", "<|assistant|>")  # a call goes on: its expression follows

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant', 'tool'] %}"
    "{{ raise_exception('expected the role system, user, assistant or tool, got ' + message['role']) }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['tool_call'] is defined and message['tool_call'] is not none %}"
    "{{ '<|call|>' + message['tool_call'] }}{% endif %}"
    "{{ '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SETTINGS = "tokenizer_config.json"
_TOKEN = (None, str, strict_json.MapOf(object))  # "[EOS]", or {"content": "[EOS]", "lstrip": false, ...}


def named_tokens(folder: str | os.PathLike[str], *, marks_spaces: bool = False) -> dict[str, str]:
    """{"bos_token": text, "eos_token": text}, as far as tokenizer_config.json (or special_tokens_map.json) in `folder` says.

    FormatError for a value that is no token, and for add_prefix_space, with which other ids would come: unless the tokenizer
    marks spaces, and its own file says where.
    """
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", SETTINGS):  # the second counts where both speak
        path = Path(folder) / name
        if path.is_file():
            settings = strict_json.read(path, schema=strict_json.MapOf(object))
            if settings.get("add_prefix_space") and not marks_spaces:
                raise FormatError(
                    path, field="add_prefix_space", expected="false (a space before each text is not added)", found=True
                )
            texts = {key: _token_text(settings, key, path) for key in ("bos_token", "eos_token")}
            found |= {key: text for key, text in texts.items() if text is not None}
    return found


def _token_text(settings: Mapping[str, Any], key: str, path: Path) -> str | None:
    value = settings.get(key)
    strict_json.check(value, _TOKEN, file=path, field=key)
    if isinstance(value, dict):
        value = value.get("content")
        strict_json.check(value, str, file=path, field=f"{key}.content")
    return value


def declared_ids(settings: Mapping[str, Any], key: str, *, file: str | os.PathLike[str]) -> list[int]:
    """The ids under `key` (eos_token_id, bos_token_id) of a config.json or generation_config.json: one, a list, or none.

    FormatError for anything but whole numbers. -1 stands for none in old files.
    """
    value = settings.get(key)
    strict_json.check(value, (None, int, [int]), file=file, field=key)
    return [i for i in ([] if value is None else value if isinstance(value, list) else [value]) if i >= 0]


def other_program(folder: str | os.PathLike[str]) -> tuple[str, str] | None:
    """(name of the file, text) of another chat template in `folder` than ours, None if there is none.

    It is a program, in Jinja, and is not run: `chat_templates.recognise` says which of the known ones it is.
    """
    alone, beside = Path(folder) / "chat_template.jinja", Path(folder) / SETTINGS
    if alone.is_file():
        program = alone.read_text("utf-8", "replace").strip()
        return None if program == CHAT_TEMPLATE else (alone.name, program)
    settings = strict_json.read(beside, schema=strict_json.MapOf(object)) if beside.is_file() else {}
    found = settings.get("chat_template") or ""
    if isinstance(found, list):  # several, each with a name
        named = {str(one.get("name")): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default") or next(iter(named.values()), "")
    strict_json.check(found, str, file=beside, field="chat_template")
    return None if found in ("", CHAT_TEMPLATE) else (beside.name, str(found))


def chat_template(special_tokens: Mapping[str, int]) -> str | None:
    """The template for a tokenizer that can write conversations; None for one that cannot."""
    return CHAT_TEMPLATE if all(name in special_tokens for name in CONTROL_TOKENS) else None


def write_settings(
    folder: Path, special_tokens: Mapping[str, int], *, bos: str | None, eos: str | None, program: str | None
) -> None:  # fmt: skip
    """Write tokenizer_config.json: which tokens begin and end a text, and how a chat is written (program: if not in our way)."""
    template = program or chat_template(special_tokens)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # tokenizer.json as it stands
        "model_input_names": ["input_ids", "attention_mask"],  # no token_type_ids: GPT-2 would add them to its input
        "clean_up_tokenization_spaces": False,  # the spaces in front of commas are the text's own
        **{"bos_token": bos, "eos_token": eos, "pad_token": eos},
        **({} if template is None else {"chat_template": template}),
    }
    write_file(folder / SETTINGS, strict_json.dump(settings, indent=1))


def add_special_tokens(tokens: list[bytes], special_tokens: Iterable[str]) -> tuple[list[bytes], dict[str, int]]:
    """`tokens` with the special ones appended, and their ids. ValueError if one is given twice."""
    names = [special_tokens] if isinstance(special_tokens, str) else list(special_tokens)
    if len(set(names)) != len(names):
        raise ValueError(f"special_tokens: got {names!r}, expected each of them once")
    ids = {name: len(tokens) + i for i, name in enumerate(names)}
    return tokens + [to_bytes(to_text(name)) for name in names], ids


def check_special(tokens: list[bytes], special_tokens: Mapping[str, int]) -> None:
    """ValueError for one that is empty, has surrogates, has another token's id, or is an ordinary token too."""
    counts = Counter(tokens) if special_tokens else Counter()
    for text, index in special_tokens.items():
        if not text or any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError(f"special_tokens: got {text!r}, expected at least one character and no surrogates")
        if not 0 <= index < len(tokens) or tokens[index] != text.encode("utf-8"):
            raise ValueError(f"special_tokens: {text!r} has id {index}, where the vocabulary has another token")
        if counts[tokens[index]] > 1:
            raise ValueError(f"special_tokens: {text!r} is an ordinary token too; choose another text")


def refuse_special(texts: Iterable[str | bytes], names: Iterable[str], *, allowed: Collection[str], place: int = 0) -> None:
    """ValueError if a token of `names` that is not allowed stands in one of the texts. place: where the first text begins."""
    pattern = either(names)
    for i, text in enumerate(texts):
        found = next((match for match in pattern.finditer(to_text(text)) if match[0] and match[0] not in allowed), None)
        if found:
            where = f"character {place + found.start()}" + (f" of text {i}" if i else "")
            advice = 'let allowed_special name it, or make it plain text by with_special_text("plain")'
            raise ValueError(f"text: at {where} stands the special token {found[0]!r}, which text may not spell here; {advice}")
