"""How known models write a conversation: ChatML, Llama 2 and 3, Gemma, Qwen, Zephyr. To a model, another way is another language.

    <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎Hello.<|im_end|>⏎                              (ChatML, OpenAI 2023)

Model folders bring such a template as a program in Jinja. None is run here: a template is data, below, and a program is
recognised by what it writes (`recognise`). Control tokens are put in by code; what people wrote is encoded as ordinary text,
together with the template's own words beside it, so that the ids are those that the model was trained on. Where turns are
marked by words alone ([INST] in Llama 2, <|user|> in Zephyr) people can write these words too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tinyllm.tokenizers.chat import ChatFormat, Message, PlainChatFormat, check_messages, check_open
from tinyllm.tokenizers.special import CONTROL_TOKENS
from tinyllm.tokenizers.tokenizer import Place, Tokenizer

QWEN_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>{tools}\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n"
    '<tool_call>\n{{"name": <function-name>, "arguments": <args-json-object>}}\n</tool_call>'
)
NO_THOUGHT = "<think>\n\n</think>\n\n"


@dataclass(frozen=True)
class ChatTemplate:
    """A way to write conversations. Texts may hold the control tokens of `special`.

    turns          role -> what stands before and behind its text; a role that is missing cannot speak
    end            the control token that ends what the assistant says
    gap            what the assistant says before its text
    start          what a conversation begins with
    system         what is written of a system message when nobody gave one
    system_format  how the system message is put before the first user's text, for those that have no turn for it
    strip          whether white space at the ends of texts goes: of "each", or of the "whole" with the system message before it
    call           before and behind a call of a tool; tools: how they are told of, with {tools} for their JSON, one a line
    thought        what stands before the assistant's last answer: that it has not thought (Qwen 3)
    """

    name: str
    special: tuple[str, ...]
    turns: Mapping[str, tuple[str, str]] = field(hash=False)
    end: str
    gap: str = ""
    start: str = ""
    system: str = ""
    system_format: str = ""
    strip: Literal["", "each", "whole"] = ""
    call: tuple[str, str] | None = None
    tools: str = ""
    thought: str = ""


def _im(role: str) -> tuple[str, str]:
    return f"<|im_start|>{role}\n", "<|im_end|>\n"


def _header(role: str) -> tuple[str, str]:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>"


_SPEAKERS = ("system", "user", "assistant")
CHATML = ChatTemplate("chatml", ("<|im_start|>", "<|im_end|>"), {role: _im(role) for role in _SPEAKERS}, "<|im_end|>")
QWEN = replace(
    CHATML, name="qwen", call=("<tool_call>\n", "\n</tool_call>"), tools=QWEN_TOOLS,
    turns={**CHATML.turns, "tool": ("<|im_start|>user\n<tool_response>\n", "\n</tool_response><|im_end|>\n")},
)  # fmt: skip
QWEN3 = replace(QWEN, name="qwen3", thought=NO_THOUGHT)
LLAMA3 = ChatTemplate(
    "llama3", ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    {**{role: _header(role) for role in _SPEAKERS}, "tool": _header("ipython")}, "<|eot_id|>", start="<|begin_of_text|>",
    strip="each", call=("", ""),
)  # fmt: skip
LLAMA2 = ChatTemplate(
    "llama2", ("<s>", "</s>"), {"user": ("<s>[INST] ", " [/INST]"), "assistant": ("", " </s>")}, "</s>", gap=" ",
    system_format="<<SYS>>\n{}\n<</SYS>>\n\n", strip="whole",
)  # fmt: skip
GEMMA = ChatTemplate(
    "gemma", ("<bos>", "<start_of_turn>", "<end_of_turn>"),
    {role: (f"<start_of_turn>{name}\n", "<end_of_turn>\n") for role, name in (("user", "user"), ("assistant", "model"))},
    "<end_of_turn>", start="<bos>", system_format="{}\n\n", strip="each",
)  # fmt: skip
ZEPHYR = ChatTemplate("zephyr", ("</s>",), {role: (f"<|{role}|>\n", "</s>\n") for role in _SPEAKERS}, "</s>")
TEMPLATES = {template.name: template for template in (CHATML, QWEN, QWEN3, LLAMA2, LLAMA3, GEMMA, ZEPHYR)}


def get_template(name: str) -> ChatTemplate:
    """The template called `name`, a key of TEMPLATES; ValueError for another name."""
    if name not in TEMPLATES:
        raise ValueError(f"template: got {name!r}, expected one of {', '.join(map(repr, TEMPLATES))}, or 'plain'")
    return TEMPLATES[name]


def recognise(program: str) -> ChatTemplate | None:
    """The template that a model folder's program (in Jinja) writes, as the tokens in it tell; None if it is none of ours.

    A system message that it writes when nobody gave one is taken over.
    """
    if "<|im_start|>" in program:
        template = CHATML if "<tool_call>" not in program else QWEN3 if "<think>" in program else QWEN
        said = re.search(r"<\|im_start\|>system(?:\n|\\n)([^'\"{}<>|]+)<\|im_end\|>", program)
        return replace(template, system=said[1].replace("\\n", "\n").strip()) if said else template
    for template, marks in (
        (LLAMA3, ("<|start_header_id|>", "<|eot_id|>")),
        (GEMMA, ("<start_of_turn>", "<end_of_turn>")),
        (LLAMA2, ("[INST]", "<<SYS>>")),
        (ZEPHYR, ("<|user|>", "<|assistant|>", "eos_token")),
    ):
        if all(mark in program for mark in marks):
            return None if template is LLAMA3 and "Cutting Knowledge" in program else template  # that one writes today's date
    return None


def template_of(special_tokens: Iterable[str]) -> ChatTemplate | None:
    """The template that these control tokens belong to, None if they say nothing (</s> has many)."""
    known = set(special_tokens)
    return next((t for t in (LLAMA3, GEMMA, CHATML) if known >= set(t.special)), None)


class TemplateChatFormat:
    """Conversations by a template, for a tokenizer that has its control tokens; ValueError names one that is missing.

    Beside `chat.ChatFormat` it takes tools: each a JSON text that says what a function does.
    """

    call_id = None
    stop_strings: tuple[str, ...] = ()

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, *, tools: Sequence[str] = ()):
        missing = [name for name in template.special if name not in tokenizer.special_tokens]
        if missing:
            raise ValueError(f"tokenizer: has no {', '.join(missing)}, which the template {template.name!r} is written with")
        if tools and not template.tools:
            raise ValueError(f"tools: the template {template.name!r} has no place for them; got {len(tools)}")
        self.tokenizer, self.template, self.tools = tokenizer, template, tuple(tools)
        self.end_id = tokenizer.special_tokens[template.end]
        self._special_ids = frozenset(tokenizer.special_tokens.values())
        self._cut = re.compile("(" + "|".join(map(re.escape, template.special)) + ")")

    def encode(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """A conversation's ids, and for each whether the assistant says it. ValueError as `check_messages`, and for a role
        that the template has not."""
        check_messages(messages)
        return self._ids(self._parts(messages))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids after which the assistant speaks. ValueError as `check_open`."""
        check_open(messages)
        before = self.template.turns["assistant"][0]
        return self._ids([*self._parts(messages), (before, False, False), (self.template.thought, False, False)])[0]

    def answer(self, text: str) -> list[int]:
        """The ids of an assistant's answer, as they follow `prompt`: its text and the token that ends it."""
        return self._ids(self._said(text), at="joined")[0]

    def parse(self, ids: Iterable[int]) -> dict[str, str]:
        """The assistant's message that generated `ids` spell, up to the token that ends it: content, and tool_call."""
        said: list[int] = []
        for i in ids:
            if i == self.end_id:
                break
            said.append(i)
        text, call = self.decode(said), self.template.call
        text = text.strip() if self.template.strip else text.removeprefix(self.template.gap)
        if call and call[0] and call[0] in text:
            content, _, rest = text.partition(call[0])
            return {"role": "assistant", "content": content.removesuffix("\n"), "tool_call": rest.partition(call[1])[0]}
        return {"role": "assistant", "content": text}

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` without special tokens. It goes on behind other text, so a space that it begins with is its own."""
        kept = (self.tokenizer.token_bytes(i) for i in ids if i not in self._special_ids)
        return b"".join(kept).decode("utf-8", "replace")

    def _parts(self, messages: Sequence[Message]) -> list[tuple[str, bool, bool]]:
        """(text, whether people wrote it, whether the assistant says it) in turn. Only what people did not write holds tokens."""
        template = self.template
        parts, before_user = [(template.start, False, False)], ""
        system = messages[0]["content"] if messages[0]["role"] == "system" else template.system
        tools = template.tools.format(tools="".join(f"\n{tool}" for tool in self.tools)) if self.tools else ""
        if template.system_format:
            before_user = template.system_format.format(system) if system else ""
        elif system or tools:
            gap = "\n\n" if system and tools else ""
            before, behind = template.turns["system"]
            parts += [
                (before, False, False),
                (self._clean(system), True, False),
                (gap + tools, False, False),
                (behind, False, False),
            ]
        last = max(i for i, message in enumerate(messages) if message["role"] != "assistant") if len(messages) > 1 else 0
        for i, message in enumerate(messages):
            role = message["role"]
            if role == "system":
                continue
            if role not in template.turns:
                raise ValueError(f"messages[{i}]: the template {template.name!r} has no role {role!r}")
            before, behind = template.turns[role]
            if role == "assistant":
                thought, said = template.thought if i > last else "", self._with_call(message, i)
                parts += [(before, False, False), (thought, False, False), *self._said(said.lstrip("\n") if thought else said)]
                parts.append((behind.partition(template.end)[2], False, False))
            else:
                whole = template.strip == "whole"
                text = self._clean(before_user + message["content"]) if whole else before_user + self._clean(message["content"])
                parts += [(before, False, False), (text, True, False), (behind, False, False)]
                before_user = ""
        return parts

    def _said(self, text: str) -> list[tuple[str, bool, bool]]:
        """What the assistant says, to the token that ends it."""
        before_end = self.template.turns["assistant"][1].partition(self.template.end)[0]
        words = self.template.gap + self._clean(text) + before_end
        return [(words, True, True), (self.template.end, False, True)]

    def _clean(self, text: str) -> str:
        return text.strip() if self.template.strip else text

    def _with_call(self, message: Message, i: int) -> str:
        """An assistant's text with its call of a tool."""
        if "tool_call" not in message:
            return message["content"]
        if self.template.call is None:
            raise ValueError(f"messages[{i}]: the template {self.template.name!r} has no place for a tool_call")
        before, behind = self.template.call
        return f"{message['content']}{chr(10) if message['content'] and before else ''}{before}{message['tool_call']}{behind}"

    def _ids(self, parts: Iterable[tuple[str, bool, bool]], *, at: Place = "start") -> tuple[list[int], list[bool]]:
        """Ids and mask. Texts between control tokens are encoded as one, up to where the assistant begins to speak."""
        ids: list[int] = []
        mask: list[bool] = []
        run, saying = "", False

        def flush() -> None:
            nonlocal run, at
            if run:
                found = self.tokenizer._encode_texts([run], self.tokenizer.added_tokens.pattern(()), at=at)[0].tolist()
                ids.extend(found)
                mask.extend([saying] * len(found))
                run, at = "", "joined"

        for text, by_people, said in parts:
            if said != saying:
                flush()
                saying = said
            for k, piece in enumerate([text] if by_people else self._cut.split(text)):
                if k % 2:
                    flush()
                    ids.append(self.tokenizer.special_tokens[piece])
                    mask.append(said)
                    at = "token"
                else:
                    run += piece
        flush()
        return ids, mask


Chat = ChatFormat | PlainChatFormat | TemplateChatFormat


def chat_format(tokenizer: Tokenizer, template: str | None = None, *, tools: Sequence[str] = ()) -> Chat:
    """The format in which a tokenizer's model converses: the template of that name ("plain": names and colons), or if none is
    given what the tokenizer tells: tinyllm's control tokens, the template of its folder, other control tokens, else plain.
    """
    if template is None and tokenizer.eos_id is not None and all(name in tokenizer.special_tokens for name in CONTROL_TOKENS):
        return ChatFormat(tokenizer)
    if template is None:
        known = recognise(tokenizer.chat_program) if tokenizer.chat_program else template_of(tokenizer.special_tokens)
    else:
        known = None if template == "plain" else get_template(template)
    if known is not None and all(name in tokenizer.special_tokens for name in known.special if template is None):
        return TemplateChatFormat(tokenizer, known, tools=tools)
    if tools:
        raise ValueError(f"tools: this way to converse has no place for them; got {len(tools)}")
    return PlainChatFormat(tokenizer)
