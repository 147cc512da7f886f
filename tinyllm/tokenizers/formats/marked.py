"""SentencePiece's two models, BPE with a marked space (Llama 2, Gemma) and Unigram (T5, ALBERT, XLM-R), from a tokenizer.json.

Where a space is put in front of a text is said in one of two places: by the normalizer (Prepend ▁, Replace " " by ▁), or by a
pre-tokenizer called Metaspace, which also cuts at each mark.
"""

from typing import Any

import numpy as np

from tinyllm.storage.strict_json import Optional
from tinyllm.tokenizers.formats.byte_level import check_model, merge_texts
from tinyllm.tokenizers.formats.parsed import File, added_tokens, kind_of, token_list
from tinyllm.tokenizers.formats.pipeline import read_post_processor, read_steps
from tinyllm.tokenizers.normalizers import Normalizer, Prepend, Replace
from tinyllm.tokenizers.sentencepiece import BYTE_PIECE, MARK, Pieces, Prefix
from tinyllm.tokenizers.sentencepiece_bpe import SentencePieceBPETokenizer
from tinyllm.tokenizers.tokenizer import Tokenizer
from tinyllm.tokenizers.unigram import UnigramTokenizer

_METASPACE = {
    "type": str, "replacement": str, "prepend_scheme": Optional(str), "add_prefix_space": Optional(bool), "split": Optional(bool),
    "str_rep": Optional(str),
}  # fmt: skip
_UNIGRAM = {"type": str, "unk_id": (None, int), "vocab": [[object]], "byte_fallback": Optional(bool), "score_bits": Optional(int)}
_SCHEMES: dict[str, Prefix] = {"always": "unless_there", "first": "first", "never": "never"}
_DECODERS = ("Replace", "ByteFallback", "Fuse", "Strip", "Metaspace")


def _spaces(file: File) -> dict[str, Any]:
    """How spaces are treated: normalizer, prefix, only_words, each_space, as `SentencePieceTokenizer` takes them."""
    steps = read_steps(file)
    marks = [
        step
        for _, step in steps
        if isinstance(step, Prepend | Replace) and MARK in (getattr(step, "prepend", ""), step_content(step))
    ]
    found: dict[str, Any] = {"prefix": "never", "only_words": False, "each_space": False}
    if steps and steps[-1][1] == Replace(" ", MARK):
        before = steps[-2][1] if len(steps) > 1 else None
        if isinstance(before, Prepend) and before.prepend == MARK:
            found["prefix"] = "once" if before.once else "always"
        n = 1 if found["prefix"] == "never" else 2
        found["normalizer"], marks = Normalizer(tuple(step for _, step in steps[:-n])), marks[:-n]
    else:
        found["normalizer"] = Normalizer(tuple(step for _, step in steps))
    if any(isinstance(step, Prepend) for step in marks):
        raise file.error("normalizer", f"Prepend {MARK!r} only right before Replace ' ' by {MARK!r}", "another order")
    for field, part in file.leaves("pre_tokenizer", "pretokenizers"):
        _cut(file, field, part, found)
    return found


def step_content(step: Prepend | Replace) -> str:
    """What a step puts into a text."""
    return step.content if isinstance(step, Replace) else step.prepend


def _cut(file: File, field: str, part: dict[str, Any], found: dict[str, Any]) -> None:
    """One pre-tokenizer, noted in `found`."""
    kind = kind_of(part)
    marked = Replace(" ", MARK) in (step for _, step in read_steps(file))
    if kind == "Split" and marked and part.get("pattern") in ({"String": " "}, {"Regex": " "}):
        return  # there is no space left to cut at
    if kind == "WhitespaceSplit" and not found["each_space"] and not marked:
        found["only_words"] = True
        return
    if kind != "Metaspace" or found["each_space"]:
        raise file.error(field, "WhitespaceSplit, then Metaspace", kind)
    part = file.check(part, _METASPACE, field)
    file.require(part, field, {"replacement": MARK})
    scheme = part.get("prepend_scheme", "always" if part.get("add_prefix_space", True) else "never")
    if scheme not in _SCHEMES:
        raise file.error(f"{field}.prepend_scheme", "always, first or never", scheme)
    if found["only_words"] and scheme != "always":
        raise file.error(f"{field}.prepend_scheme", "always, after WhitespaceSplit", scheme)
    found["prefix"] = _SCHEMES[scheme] if found["prefix"] == "never" else found["prefix"]
    found["each_space"] = part.get("split", True)


def _check_decoder(file: File) -> bool:
    """Whether the space in front is taken away again. Refuses decoders that do something else."""
    drops = False
    leaves = file.leaves("decoder", "decoders")
    for field, part in leaves:
        kind = kind_of(part)
        if kind not in _DECODERS:
            raise file.error(field, f"one of {', '.join(_DECODERS)}", kind)
        if kind == "Replace" and (part.get("pattern"), part.get("content")) != ({"String": MARK}, " "):
            raise file.error(field, f"{MARK!r} replaced by a space", part)
        if kind == "Strip":
            file.require(part, field, {"content": " ", "start": 1, "stop": 0})
        scheme = part.get("prepend_scheme", "always" if part.get("add_prefix_space", True) else "never")
        drops = drops or kind == "Strip" or (kind == "Metaspace" and scheme != "never")
    return drops


def _made(file: File, make: Any) -> Tokenizer:
    """What `make` makes, with the decoder's settings; what it refuses is an error of the file."""
    try:
        tokenizer: Tokenizer = make()
    except ValueError as error:
        field, _, text = str(error).partition(": ")
        raise file.error(f"model.{field}", "a consistent vocabulary", text) from None
    tokenizer.leading_spaces = int(_check_decoder(file))
    return tokenizer


def read_marked_bpe(file: File) -> Tokenizer:
    """BPE over characters."""
    model, added = check_model(file), added_tokens(file)
    texts = token_list(file, model["vocab"], added)
    spaces = _spaces(file)
    unknown = model.get("unk_token")
    if unknown is not None and unknown not in model["vocab"]:
        raise file.error("model.unk_token", "a token of the vocabulary", unknown)
    if model.get("ignore_merges"):
        raise file.error("model.ignore_merges", "false where spaces are marked", True)
    byte_fallback = bool(model.get("byte_fallback"))
    pieces = Pieces(texts, None if unknown is None else model["vocab"][unknown], byte_fallback)
    if not model.get("fuse_unk") and pieces.byte_ids() is None:
        raise file.error("model.fuse_unk", "true, or pieces for all 256 bytes", False)
    merges = []
    for i, merge in enumerate(model["merges"]):
        left, right = merge_texts(file, i, merge)
        for text in (left, right, left + right):
            if text not in model["vocab"]:
                raise file.error(f"model.merges[{i}]", "tokens of the vocabulary that make one", text)
        if byte_fallback and any(map(BYTE_PIECE.fullmatch, (left, right))):
            raise file.error(f"model.merges[{i}]", "no pieces that stand for a byte", merge)
        merges.append((model["vocab"][left], model["vocab"][right], model["vocab"][left + right]))
    template, _ = read_post_processor(file, texts)
    special = {token.content: token.id for token in added if token.special}
    if wrong := [token for token in added if token.normalized and not token.special]:
        raise file.error("added_tokens", "normalized false where spaces are marked by the normalizer", wrong[0].content)
    return _made(
        file,
        lambda: SentencePieceBPETokenizer(
            pieces, merges, special_tokens=special, added_tokens=added, template=template, **spaces
        ),
    )


def read_unigram(file: File) -> Tokenizer:
    """Unigram: pieces with their log probabilities, in the order of the ids."""
    model, added = file.check(file.content["model"], _UNIGRAM, "model"), added_tokens(file)
    vocab: dict[str, int] = {}
    scores = []
    for i, pair in enumerate(model["vocab"]):
        if len(pair) != 2 or not isinstance(pair[0], str) or isinstance(pair[1], bool) or not isinstance(pair[1], int | float):
            raise file.error(f"model.vocab[{i}]", "a piece and its log probability", pair)
        if pair[0] in vocab:
            raise file.error(f"model.vocab[{i}]", "a piece of its own", f"{pair[0]!r}, as at {vocab[pair[0]]}")
        vocab[pair[0]] = i
        scores.append(float(pair[1]))
    texts = token_list(file, vocab, added)
    pieces = Pieces(texts, model["unk_id"], bool(model.get("byte_fallback")))
    if model.get("score_bits", 64) not in (32, 64):
        raise file.error("model.score_bits", "32 or 64", model["score_bits"])
    log_probabilities = np.zeros(len(texts), np.float32 if model.get("score_bits") == 32 else np.float64)
    log_probabilities[: len(scores)] = scores
    template, _ = read_post_processor(file, texts)
    special = {token.content: token.id for token in added if token.special}
    spaces = _spaces(file)
    return _made(
        file,
        lambda: UnigramTokenizer(
            pieces, log_probabilities, special_tokens=special, added_tokens=added, template=template, **spaces
        ),
    )
