"""Preferences as ids: grouped by prompt, every answer once; what cannot be learned from is counted, never silent."""

import numpy as np
import pytest

from tinyllm.data.conversations.preferences import Preference
from tinyllm.rlhf.comparisons import ComparedAnswers, check_same_tokenizer, checksum, encode_preferences
from tinyllm.tokenizers import END_OF_TEXT, ByteTokenizer
from tinyllm.tokenizers.chat import CONTROL_TOKENS, ChatFormat

CHAT = ChatFormat(ByteTokenizer(special_tokens=[END_OF_TEXT, *CONTROL_TOKENS]))


def prefer(prompt, chosen, rejected, **more):
    return Preference([{"role": "user", "content": prompt}], chosen, rejected, **more)


def test_all_comparisons_of_a_prompt_share_one_group_and_each_answer_is_there_once():
    preferences = [prefer("p", "a", "b", margin=2.0), prefer("q", "x", "y"), prefer("p", "c", "b"), prefer("p", "a", "c")]
    groups, report = encode_preferences(preferences, CHAT, block_size=32)
    assert [len(group.answers) for group in groups] == [3, 2]
    assert groups[0].pairs.tolist() == [[0, 1], [2, 1], [0, 2]]
    assert groups[0].margins.tolist() == [2.0, 0.0, 0.0]
    assert groups[0].answers == [CHAT.answer(text) for text in "abc"]
    assert groups[0].prompt == CHAT.prompt(preferences[0].prompt)
    assert report.n_kept == 4 and "4 comparisons" in str(report)


def test_prompt_and_answer_together_are_the_conversation_as_it_is_trained_on():
    groups, _ = encode_preferences([prefer("p", "good", "bad")], CHAT, block_size=32)
    whole, mask = CHAT.encode([{"role": "user", "content": "p"}, {"role": "assistant", "content": "good"}])
    assert groups[0].prompt + groups[0].answers[0] == whole
    assert len(groups[0].answers[0]) == sum(mask)


def test_what_cannot_be_learned_from_is_counted_by_reason():
    room = len(CHAT.prompt([{"role": "user", "content": "p"}]))
    preferences = [
        prefer("p", "same", "same"),
        prefer("p" * 40, "a", "b"),
        prefer("p", "a" * 40, "b"),
        prefer("p", "b", "a" * 40),
        prefer("p", "a", "b"),
    ]
    groups, report = encode_preferences(preferences, CHAT, block_size=room + 8)
    assert (report.n_kept, report.n_equal, report.n_no_room, report.n_too_long) == (1, 1, 1, 2)
    assert len(groups) == 1 and len(groups[0].answers) == 2
    assert "1 of equal answers, 1 whose prompt leaves no room, 2 too long" in str(report)


def test_a_file_of_equal_pairs_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="none can be learned from .* left out: 2 of equal answers"):
        encode_preferences([prefer("p", "a", "a"), prefer("q", "b", "b")], CHAT, block_size=32)


def test_an_answer_may_fill_the_context_to_the_last_token():
    length = len(CHAT.prompt([{"role": "user", "content": "p"}])) + len(CHAT.answer("ab"))
    assert encode_preferences([prefer("p", "ab", "c")], CHAT, block_size=length)[1].n_kept == 1
    with pytest.raises(ValueError, match="1 too long"):
        encode_preferences([prefer("p", "ab", "c")], CHAT, block_size=length - 1)


def test_another_tokenizer_is_refused_with_both_fingerprints():
    other = ByteTokenizer(special_tokens=["<|other|>"])
    check_same_tokenizer(CHAT.tokenizer, CHAT.tokenizer)
    with pytest.raises(ValueError, match=f"sha256 {CHAT.tokenizer.fingerprint()[:12]}.*reward model {other.fingerprint()[:12]}"):
        check_same_tokenizer(CHAT.tokenizer, other)


def test_a_checksum_sees_where_lists_end_and_who_won():
    def of(prompt, answers, pairs):
        return checksum([ComparedAnswers(prompt, answers, np.array(pairs), np.zeros(len(pairs)))])

    values = {of([1, 2], [[3], [4]], [(0, 1)]), of([1], [[2, 3], [4]], [(0, 1)]), of([1, 2], [[3], [4]], [(1, 0)])}
    assert len(values) == 3 and of([1], [[2], [3]], [(0, 1)]) == of([1], [[2], [3]], [(0, 1)])
