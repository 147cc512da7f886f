import pytest

from tinyllm.tokenizers import CharacterTokenizer


def test_ids_follow_the_order_of_code_points():
    tokenizer = CharacterTokenizer.train(["banana", "né"], special_tokens=["<e>"])
    assert [t.decode() for t in tokenizer.tokens] == ["a", "b", "n", "é", "\ufffd", "<e>"]
    assert tokenizer.encode("banane") == [1, 0, 2, 0, 2, 4]


def test_unseen_characters_and_broken_bytes_become_the_replacement_character():
    tokenizer = CharacterTokenizer.train([b"ab\xff"])
    assert tokenizer.decode(tokenizer.encode(b"a?b\xff\xfe")) == "a\ufffdb\ufffd\ufffd"


def test_a_replacement_character_in_the_text_is_not_added_twice():
    assert CharacterTokenizer.train(["\ufffda"], special_tokens=[]).vocab_size == 2


@pytest.mark.parametrize("characters", [["a", "a"], ["ab"], [""], ["\ud800"], [3]])
def test_bad_alphabets_are_refused(characters):
    with pytest.raises(ValueError, match="characters: got"):
        CharacterTokenizer(characters)


def test_one_text_is_not_mistaken_for_many_documents():
    with pytest.raises(ValueError, match="documents: got one text"):
        CharacterTokenizer.train("abc")
