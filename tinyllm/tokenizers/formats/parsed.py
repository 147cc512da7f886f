"""A parsed tokenizer.json that knows its name, and the parts of it that all kinds of models share: added tokens and ids."""

from pathlib import Path
from typing import Any

from tinyllm.storage import FormatError, foreign, strict_json
from tinyllm.storage.strict_json import MapOf, Optional
from tinyllm.tokenizers.added_tokens import AddedToken
from tinyllm.tokenizers.pretokenize import SplitPattern

MOST_IDS = 1 << 24  # the largest id of a file that is believed
_ADDED = {
    "id": int,
    "content": str,
    "special": bool,
    "single_word": Optional(bool),
    "lstrip": Optional(bool),
    "rstrip": Optional(bool),
    "normalized": Optional(bool),
}
_FILE = {
    "version": Optional(str),
    "truncation": Optional((None, MapOf(object))),  # how a batch was made when the file was saved: of no effect on a text
    "padding": Optional((None, MapOf(object))),
    "added_tokens": Optional([_ADDED]),
    "normalizer": Optional(object),
    "pre_tokenizer": object,
    "post_processor": Optional(object),
    "decoder": Optional(object),
    "model": MapOf(object),
}
_SPLIT = {"type": str, "pattern": MapOf(str), "behavior": str, "invert": Optional(bool)}


class File:
    """A parsed file that knows its name, so that every complaint can say file and field."""

    def __init__(self, path: Path, content: dict[str, Any], own: SplitPattern | None = None):
        self.path, self.own = path, own
        self.content: dict[str, Any] = self.check(content, _FILE, "JSON")

    def error(self, field: str, expected: str, found: object) -> FormatError:
        """A FormatError about one field."""
        return FormatError(self.path, field=field, expected=expected, found=found)

    def check(self, value: Any, schema: Any, field: str) -> Any:
        """`value`, if it follows `schema`, without unknown settings that are off (null, false, 0 or empty)."""
        if isinstance(schema, dict) and isinstance(value, dict):
            value = {key: item for key, item in value.items() if item or key in schema}
        strict_json.check(value, schema, file=self.path, field=field)
        return value

    def require(self, part: dict[str, Any], field: str, wanted: dict[str, Any]) -> None:
        """Refuse settings we do not have: where a key is present it must have the wanted value."""
        for key, value in wanted.items():
            if part.get(key, value) != value:
                raise self.error(f"{field}.{key}", f"{value!r} (nothing else is supported)", part[key])

    def leaves(self, field: str, members: str) -> list[tuple[str, dict[str, Any]]]:
        """(field, part) of the parts that one field holds: a Sequence, which may hold others, is taken apart; null is none."""
        found: list[tuple[str, dict[str, Any]]] = []
        waiting = [(field, self.content.get(field))]
        while waiting:
            name, part = waiting.pop(0)
            self.check(part, (None, MapOf(object)), name)
            if kind_of(part) == "Sequence":
                inner = self.check((part or {}).get(members), [MapOf(object)], f"{name}.{members}")
                waiting = [(f"{name}.{members}[{i}]", one) for i, one in enumerate(inner)] + waiting
            elif part is not None:
                found.append((name, part))
        return found


def kind_of(part: Any) -> str | None:
    """The type of a part; of one that is none, what stands there, for errors. None: nothing."""
    kind = part.get("type", part) if isinstance(part, dict) else part
    return kind if kind is None or isinstance(kind, str) else f"{kind!r:.60}"


def added_tokens(file: File) -> list[AddedToken]:
    """The added tokens. Where nothing is normalized, `normalized` means nothing."""
    added: list[AddedToken] = []
    contents: set[str] = set()
    ids: set[int] = set()
    for i, token in enumerate(file.content.get("added_tokens") or []):
        field = f"added_tokens[{i}]"
        if token["content"] in contents or token["id"] in ids:
            raise file.error(field, "a content and an id of its own", f"{token['content']!r} = {token['id']}, again")
        if not token["content"]:
            raise file.error(f"{field}.content", "at least one character", "nothing")
        if not 0 <= token["id"] <= MOST_IDS:
            raise file.error(f"{field}.id", f"0 to {MOST_IDS}", token["id"])
        flags = {name: bool(token.get(name)) for name in ("lstrip", "rstrip", "single_word")}
        flags["normalized"] = bool(token.get("normalized")) and bool(file.leaves("normalizer", "normalizers"))
        if flags["normalized"] and not token["special"] and any(flags[name] for name in ("lstrip", "rstrip", "single_word")):
            raise file.error(f"{field}.normalized", "false for a token with lstrip, rstrip or single_word", True)
        added.append(AddedToken(token["content"], token["id"], special=token["special"], **flags))
        contents.add(token["content"])
        ids.add(token["id"])
    return added


def token_list(file: File, vocab: dict[str, int], added: list[AddedToken]) -> list[str | None]:
    """The texts in order of id; None for an id that has none."""
    for token in added:
        if vocab.get(token.content, token.id) != token.id:
            raise file.error(f"model.vocab.{token.content}", f"{token.id}, as in added_tokens", vocab[token.content])
    texts: dict[int, str] = {}
    for text, index in {**vocab, **{token.content: token.id for token in added}}.items():
        if index in texts:
            raise file.error(f"model.vocab.{text}", "an id of its own", f"{index}, the id of {texts[index]!r} too")
        if not 0 <= index <= MOST_IDS:
            raise file.error(f"model.vocab.{text}", f"0 to {MOST_IDS}", index)
        texts[index] = text
    most = max(texts, default=-1)
    if most >= 2 * len(texts) + 1024:
        raise file.error("model.vocab", "ids without large holes", f"{len(texts)} tokens, of which one has id {most}")
    return [texts.get(index) for index in range(most + 1)]


def usual_tokens(file: File, added: list[AddedToken]) -> dict[str, int]:
    """Added tokens as content -> id, for tokenizers of which all are special and have no ways of their own."""
    for i, token in enumerate(added):
        if token != AddedToken(token.content, token.id):
            raise file.error(f"added_tokens[{i}]", "a special token that takes no white space with it", str(token))
    return {token.content: token.id for token in added}


def without_holes(file: File, texts: list[str | None]) -> list[str]:
    """The texts, if each id has one."""
    found = [text for text in texts if text is not None]
    if len(found) < len(texts):
        raise file.error("model.vocab", f"ids 0 to {len(found) - 1} without holes", f"no token {texts.index(None)}")
    return found


def split_pattern(file: File, part: Any, field: str) -> str:
    """The regular expression of a Split part."""
    if kind_of(part) != "Split":
        raise file.error(field, "Split", kind_of(part))
    part = file.check(part, _SPLIT, field)
    if (part["behavior"], part.get("invert")) != ("Removed", True):  # what lies between the matches: with our patterns, nothing
        file.require(part, field, {"behavior": "Isolated", "invert": False})
    if list(part["pattern"]) != ["Regex"]:
        found = f"{list(part['pattern'])}; a String is matched literally"
        raise file.error(f"{field}.pattern", '{"Regex": "..."}', found)
    return part["pattern"]["Regex"]


def read_lines(path: Path, expected: str) -> list[str]:
    """The lines of a text file, such as merges.txt; FormatError if it is too large, another kind of file, or no UTF-8."""
    if (size := path.stat().st_size) > strict_json.MAX_BYTES:
        raise FormatError(path, field="size", expected=f"at most {strict_json.MAX_BYTES} bytes", found=size)
    content = path.read_bytes()
    if what := foreign.recognised(content[: foreign.LENGTH]):
        raise FormatError(path, field="content", expected=f"{expected}, one a line", found=what)
    try:
        return [line.rstrip("\r") for line in content.decode("utf-8").split("\n")]
    except UnicodeDecodeError as error:
        raise FormatError(path, field="content", expected="UTF-8 text", found=f"byte {content[error.start]:#x}") from None
