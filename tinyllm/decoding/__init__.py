"""Decoding: from a trained model to text, one token after the other.

config.py    the settings                               prompts.py   checks, cropping, left padding
logits.py    filters and the choice of a token          generate.py  the loop over a batch
context.py   what has been read: the key/value cache    compiled.py  a step as one kernel, for many rows of a small model
beam.py      beam search                                stream.py    text: whole, in batches, or while it is written
long_text.py text beyond the context
"""

from tinyllm.decoding.beam import Hypothesis, beam_search
from tinyllm.decoding.config import TEMPERATURE, GenerationConfig
from tinyllm.decoding.generate import GenerationResult, Step, generate, generate_steps
from tinyllm.decoding.logits import filter_logits
from tinyllm.decoding.long_text import keep_tail, write_on
from tinyllm.decoding.prompts import crop_prompt
from tinyllm.decoding.stream import TextStream, encode_prompt, generate_text, generate_texts, stream_text

__all__ = [
    "TEMPERATURE", "GenerationConfig", "GenerationResult", "Hypothesis", "Step", "TextStream", "beam_search", "crop_prompt",
    "encode_prompt", "filter_logits", "generate", "generate_steps", "generate_text", "generate_texts", "keep_tail", "stream_text",
    "write_on",
]  # fmt: skip
