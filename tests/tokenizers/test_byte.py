from tinyllm.tokenizers import ByteTokenizer


def test_ids_are_byte_values_and_special_tokens_follow():
    tokenizer = ByteTokenizer(special_tokens=["<a>", "<b>"])
    assert tokenizer.encode("é!") == [0xC3, 0xA9, 0x21]
    assert tokenizer.special_tokens == {"<a>": 256, "<b>": 257} and tokenizer.vocab_size == 258


def test_a_cut_character_is_shown_as_replaced_but_kept_in_bytes():
    tokenizer = ByteTokenizer()
    assert tokenizer.decode([0xC3]) == "\ufffd" and tokenizer.decode_bytes([0xC3]) == b"\xc3"
