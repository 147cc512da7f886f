"""Reading tokenizer.json, the file Hugging Face's `tokenizers` writes: every part is looked at, none is skipped in silence.

A file is a pipeline: added_tokens -> normalizer -> pre_tokenizer -> model -> post_processor -> decoder. We read those
that are byte-level BPE (GPT-2's and GPT-4's cuts), and our own character and byte tokenizers. Parts are judged by what they
do: one that leaves the ids as they are is read (an empty sequence, an unknown token that no text can reach, how batches
were cut and padded), one that would change them is refused by name, for a tokenizer that is almost right ruins a model
without a word. Trap: {"Split": {"pattern": {"String": p}}} is a literal text, {"Regex": p} an expression; mixing them up
has broken tokenizers. Older folders hold vocab.json and merges.txt instead: the model alone, cut as GPT-2 cuts.
"""

import os
from pathlib import Path
from typing import Any, get_args

from tinyllm.storage import FormatError, foreign, strict_json
from tinyllm.storage.strict_json import MapOf, Optional
from tinyllm.tokenizers.added_tokens import AddedToken
from tinyllm.tokenizers.bpe import BPETokenizer, Form
from tinyllm.tokenizers.byte import ByteTokenizer
from tinyllm.tokenizers.character import UNKNOWN, CharacterTokenizer
from tinyllm.tokenizers.layout import EVERY_CHARACTER, from_visible
from tinyllm.tokenizers.pretokenize import PATTERNS, SplitPattern, pattern_from_regex
from tinyllm.tokenizers.special import END_OF_TEXT, named_tokens
from tinyllm.tokenizers.tokenizer import Tokenizer

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
_BPE = {
    "type": Optional(str),
    "dropout": Optional((None, float)),
    "unk_token": Optional((None, str)),
    "continuing_subword_prefix": Optional((None, str)),
    "end_of_word_suffix": Optional((None, str)),
    "fuse_unk": Optional(bool),
    "byte_fallback": Optional(bool),
    "ignore_merges": Optional(bool),
    "vocab": MapOf(int),
    "merges": [object],
}
_WORD_LEVEL = {"type": str, "vocab": MapOf(int), "unk_token": str}
_BYTE_LEVEL = {"type": str, "add_prefix_space": bool, "trim_offsets": Optional(bool), "use_regex": Optional(bool)}
_SPLIT = {"type": str, "pattern": MapOf(str), "behavior": str, "invert": Optional(bool)}


class _File:
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
            if _kind(part) == "Sequence":
                inner = self.check((part or {}).get(members), [MapOf(object)], f"{name}.{members}")
                waiting = [(f"{name}.{members}[{i}]", one) for i, one in enumerate(inner)] + waiting
            elif part is not None:
                found.append((name, part))
        return found


def load_tokenizer(path: str | os.PathLike[str], *, pattern: SplitPattern | None = None) -> Tokenizer:
    """The tokenizer in a tokenizer.json, or in the folder that holds one. The file's content decides its class.

    A folder without it may hold vocab.json and merges.txt, GPT-2's own two files. What tokenizer_config.json says of the
    tokens that begin and end a text is known to the tokenizer (`special`). `pattern`: one of your own that the file may cut by
    (`pretokenize.own_pattern`), since no expression that only a file knows is run. FormatError (a ValueError) names file, field,
    what was expected and found; OSError if there is no such file.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and not (path / "tokenizer.json").is_file():
        file = _File(path / "vocab.json", _two_files(path))
    else:
        path = path / "tokenizer.json" if path.is_dir() else path
        file = _File(path, strict_json.read(path, schema=MapOf(object)), pattern)
    tokenizer = _read(file)
    return _with_named(tokenizer, named_tokens(folder)) if path.is_dir() or path.name == "tokenizer.json" else tokenizer


def _read(file: _File) -> Tokenizer:
    """The tokenizer of a parsed file. What kind of model it is comes first: it is the reason behind all other differences."""
    model = file.content["model"]
    kind = model.get("type") or ("BPE" if "merges" in model else None)
    if kind not in ("BPE", "WordLevel"):
        raise file.error("model.type", "'BPE' or 'WordLevel' (of single characters)", kind)
    pattern = None if kind == "WordLevel" else _cut(file)
    form = _normalization(file)
    if kind == "WordLevel" and form:
        raise file.error("normalizer", "nothing that changes the text", form)
    _check_post_processor(file)
    added = _added_tokens(file)
    return _read_character(file, added) if kind == "WordLevel" else _read_bpe(file, added, pattern, form)


def _normalization(file: _File) -> Form | None:
    """The Unicode form that text is brought into; None if it is left as it is."""
    form: Form | None = None
    for field, part in file.leaves("normalizer", "normalizers"):
        if part == _NO_STRIP or (_kind(part) == "Prepend" and not part.get("prepend")):
            continue
        if form or part.get("type") not in get_args(Form):
            raise file.error(field, f"nothing that changes the text, or one of {', '.join(get_args(Form))}", _kind(part))
        form = part["type"]
    return form


def _with_named(tokenizer: Tokenizer, names: dict[str, str]) -> Tokenizer:
    """The tokenizer, knowing the tokens that the settings beside it name. A name that it has no token for says nothing."""
    ids = {token: i for i, token in reversed(list(enumerate(tokenizer.tokens)))} if names else {}
    begin, end = (ids.get(names.get(key, "").encode("utf-8", "replace")) for key in ("bos_token", "eos_token"))
    return tokenizer.with_said_ids(bos_id=begin, stop_ids=[] if end is None else [end]) if names else tokenizer


def _two_files(folder: Path) -> dict[str, Any]:
    """vocab.json and merges.txt as the tokenizer.json that says the same: GPT-2's cut, nothing before and nothing after it."""
    paths = vocab_path, merges_path = folder / "vocab.json", folder / "merges.txt"
    if not all(path.is_file() for path in paths):
        others = [name for name in ("vocab.json", "merges.txt", "tokenizer.model", "vocab.txt") if (folder / name).is_file()]
        found = f"only {', '.join(others)}, from which no tokenizer can be read here" if others else "none of them"
        raise FileNotFoundError(f"{folder}: expected tokenizer.json, or vocab.json and merges.txt; found {found}")
    vocab = strict_json.read(vocab_path, schema=MapOf(int))
    added_path = folder / "added_tokens.json"
    added = strict_json.read(added_path, schema=MapOf(int)) if added_path.is_file() else {}
    named = {text for text in (END_OF_TEXT, *named_tokens(folder).values()) if text in vocab}
    special = {**added, **{text: vocab[text] for text in sorted(named, key=vocab.__getitem__)}}
    return {
        "added_tokens": [{"id": i, "content": text, "special": True} for text, i in special.items()],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "model": {"type": "BPE", "vocab": vocab, "merges": _merge_lines(merges_path)},
    }


def _merge_lines(path: Path) -> list[str]:
    """The lines of a merges.txt, "a b" each, without the first one ("#version: 0.2") and empty ones."""
    content = path.read_bytes()
    if len(content) > strict_json.MAX_BYTES:
        raise FormatError(path, field="size", expected=f"at most {strict_json.MAX_BYTES} bytes", found=len(content))
    if what := foreign.recognised(content[: foreign.LENGTH]):
        raise FormatError(path, field="content", expected="merges, one a line", found=what)
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(path, field="content", expected="UTF-8 text", found=f"byte {content[error.start]:#x}") from None
    lines = [line.rstrip("\r") for line in lines[lines[0].startswith("#version") :]]
    for number, line in enumerate(lines, start=1):
        if line and len(line.split(" ")) != 2:
            raise FormatError(path, field=f"merge {number}", expected="two tokens with a space between", found=line)
    return [line for line in lines if line]


_NO_STRIP = {"type": "Strip", "strip_left": False, "strip_right": False}


def _kind(part: Any) -> object:
    """The type of a part, for errors."""
    return part.get("type", part) if isinstance(part, dict) else part


def _added_tokens(file: _File) -> list[AddedToken]:
    """The added tokens; those that match inside normalized text only are refused where text is normalized."""
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
        if token.get("normalized") and file.leaves("normalizer", "normalizers"):
            raise file.error(f"{field}.normalized", "false where text is normalized", True)
        flags = {name: bool(token.get(name)) for name in ("lstrip", "rstrip", "single_word")}
        added.append(AddedToken(token["content"], token["id"], special=token["special"], **flags))
        contents.add(token["content"])
        ids.add(token["id"])
    return added


def _token_list(file: _File, vocab: dict[str, int], added: list[AddedToken]) -> list[str | None]:
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


def _read_character(file: _File, added: list[AddedToken]) -> CharacterTokenizer:
    """The WordLevel layout of `layout.character_layout`; a table of real words is refused."""
    model = file.check(file.content["model"], _WORD_LEVEL, "model")
    special = _usual(file, added)
    texts = _without_holes(file, _token_list(file, model["vocab"], added))
    cuts, joins = file.leaves("pre_tokenizer", "pretokenizers"), file.leaves("decoder", "decoders")
    if len(cuts) != 1 or _split_pattern(file, cuts[0][1], cuts[0][0]) != EVERY_CHARACTER:
        raise file.error("pre_tokenizer", f"a Split by {EVERY_CHARACTER}", " and ".join(str(_kind(p)) for _, p in cuts) or "null")
    if [_kind(part) for _, part in joins] != ["Fuse"]:
        raise file.error("decoder", "Fuse", " and ".join(str(_kind(part)) for _, part in joins) or "null")
    n = len(texts) - len(special)
    for index, text in enumerate(texts):
        if (text in special) != (index >= n) or (index < n and len(text) != 1):
            raise file.error(f"model.vocab.{text}", "single characters first, special tokens last", index)
    if model["unk_token"] != UNKNOWN or UNKNOWN not in texts[:n]:
        raise file.error("model.unk_token", f"{UNKNOWN!r}, in the vocabulary", model["unk_token"])
    return CharacterTokenizer(texts[:n], special_tokens=texts[n:])


def _usual(file: _File, added: list[AddedToken]) -> dict[str, int]:
    """Added tokens as content -> id, for tokenizers of which all are special and have no ways of their own."""
    for i, token in enumerate(added):
        if token != AddedToken(token.content, token.id):
            raise file.error(f"added_tokens[{i}]", "a special token that takes no white space with it", str(token))
    return {token.content: token.id for token in added}


def _without_holes(file: _File, texts: list[str | None]) -> list[str]:
    """The texts, if each id has one."""
    found = [text for text in texts if text is not None]
    if len(found) < len(texts):
        raise file.error("model.vocab", f"ids 0 to {len(found) - 1} without holes", f"no token {texts.index(None)}")
    return found


def _read_bpe(file: _File, added: list[AddedToken], pattern: str | SplitPattern | None, form: Form | None) -> Tokenizer:
    """A byte-level BPE; without merges and cuts, and with ids that are byte values, it is the byte tokenizer."""
    model = file.check(file.content["model"], _BPE, "model")
    if model.get("dropout"):
        raise file.error("model.dropout", "null or 0: one text, one sequence of ids", model["dropout"])
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):  # null and "" both mean none
            raise file.error(f"model.{key}", "null (it is not supported)", model[key])
    for field, part in file.leaves("decoder", "decoders"):  # none at all: tokens are bytes all the same
        if _kind(part) not in ("ByteLevel", "Fuse"):
            raise file.error(field, "null, ByteLevel or Fuse", _kind(part))
    contents = {token.content for token in added}
    texts = _token_list(file, model["vocab"], added)
    tokens = [b"" if text is None else _token_bytes(file, text, contents) for text in texts]
    merges = [_merge(file, i, merge) for i, merge in enumerate(model["merges"])]
    try:
        if pattern is None:
            return _read_byte(file, tokens, merges, _usual(file, added))
        # every byte must have a token here: so unk_token, fuse_unk and byte_fallback, whatever they are, have no effect
        special = {token.content: token.id for token in added if token.special}
        own_ways = [token for token in added if token != AddedToken(token.content, token.id)]
        whole = bool(model.get("ignore_merges"))
        return BPETokenizer(
            tokens,
            merges,
            pattern=pattern,
            special_tokens=special,
            added_tokens=own_ways,
            ignore_merges=whole,
            normalization=form,
        )
    except FormatError:
        raise
    except ValueError as error:  # the constructor names the field: "merges[3]: ..."
        field, _, text = str(error).partition(": ")
        raise file.error(f"model.{field}", "a consistent vocabulary", text) from None


def _token_bytes(file: _File, text: str, special: set[str]) -> bytes:
    """The bytes of one entry of the vocabulary."""
    token = text.encode("utf-8") if text in special else from_visible(text)
    if token is None:
        raise file.error(f"model.vocab.{text}", "the byte-level alphabet", text)
    return token


def _merge(file: _File, index: int, merge: Any) -> tuple[bytes, bytes]:
    """One merge, written ["a", "b"] or, in older files, "a b"."""
    field = f"model.merges[{index}]"
    parts = merge.split(" ") if isinstance(merge, str) else file.check(merge, [str], field)
    if len(parts) != 2:
        raise file.error(field, "two tokens", merge)
    left, right = map(from_visible, parts)
    if left is None or right is None:
        raise file.error(field, "tokens of the byte-level alphabet", merge)
    return left, right


def _check_post_processor(file: _File) -> None:
    """A post-processor may set offsets, which we do not report, but not add tokens to a text."""
    for field, part in file.leaves("post_processor", "processors"):
        if _kind(part) == "TemplateProcessing":
            items = file.check(part.get("single"), [MapOf(object)], f"{field}.single")
            if added := [item for item in items if "Sequence" not in item]:
                found = ", ".join(str(file.check(one, MapOf(MapOf(object)), field)) for one in added)
                raise file.error(field, "none that adds tokens to a text", found)
        elif _kind(part) != "ByteLevel":
            raise file.error(field, "none that adds tokens to a text", _kind(part))


def _read_byte(file: _File, tokens: list[bytes], merges: list[tuple[bytes, bytes]], special: dict[str, int]) -> ByteTokenizer:
    """The layout of `layout.byte_layout`: ids 0 to 255 are the bytes, special tokens follow, nothing is merged."""
    if merges or tokens[:256] != [bytes([b]) for b in range(256)] or len(tokens) != 256 + len(special):
        raise file.error("pre_tokenizer", f"a known cut ({', '.join(PATTERNS)})", "none, for a model that is not plain bytes")
    return ByteTokenizer(special_tokens=sorted(special, key=special.__getitem__))


def _cut(file: _File) -> str | SplitPattern | None:
    """The pattern that the pre_tokenizer spells, or its name; None when text is not cut at all."""
    leaves = file.leaves("pre_tokenizer", "pretokenizers")
    kinds = [_kind(part) for _, part in leaves]
    if kinds == ["Digits", "ByteLevel"] and leaves[0][1].get("individual_digits") is True and _uses_regex(file, *leaves[1][::-1]):
        return "smollm"
    if kinds not in (["ByteLevel"], ["Split", "ByteLevel"]):
        found = " and ".join(map(str, kinds)) or "null"
        raise file.error("pre_tokenizer", "ByteLevel, or Split and ByteLevel: a BPE of bytes", found)
    field, byte_level = leaves[-1]
    cuts = _uses_regex(file, byte_level, field)
    if len(leaves) == 1:
        return "gpt2" if cuts else None
    if cuts:
        raise file.error(f"{field}.use_regex", "false after a Split (nothing else is supported)", True)
    field, split = leaves[0]
    text = _split_pattern(file, split, field)
    pattern = file.own if file.own and text == file.own.published else pattern_from_regex(text)
    if pattern is None:
        raise file.error(f"{field}.pattern", f"the pattern of {' or '.join(PATTERNS)}, or one given to load_tokenizer", text)
    return pattern


def _uses_regex(file: _File, part: dict[str, Any], field: str) -> bool:
    """Whether a ByteLevel part cuts by GPT-2's pattern (the default when the key is absent)."""
    file.require(file.check(part, _BYTE_LEVEL, field), field, {"add_prefix_space": False})
    return part.get("use_regex", True)


def _split_pattern(file: _File, part: Any, field: str) -> str:
    """The regular expression of a Split part."""
    if _kind(part) != "Split":
        raise file.error(field, "Split", _kind(part))
    part = file.check(part, _SPLIT, field)
    if (part["behavior"], part.get("invert")) != ("Removed", True):  # what lies between the matches: with our patterns, nothing
        file.require(part, field, {"behavior": "Isolated", "invert": False})
    if list(part["pattern"]) != ["Regex"]:
        found = f"{list(part['pattern'])}; a String is matched literally"
        raise file.error(f"{field}.pattern", '{"Regex": "..."}', found)
    return part["pattern"]["Regex"]
