"""Loops over text: where pieces end, which were seen before, and how the bytes of a new one are joined into tokens.

`cuts` finds the ends of pieces, `words` remembers what a piece became, `merging` joins pairs, `byte_pairs` puts them together.
Their plain twins are in `tinyllm/tokenizers/`: `pretokenize` (the regular expressions) and `bpe`.
"""
