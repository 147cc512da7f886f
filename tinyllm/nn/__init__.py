"""Layers: an op plus its weights. Each file is one idea; `module.py` is how they hold together."""

from tinyllm.nn.attention import Attention, SelfAttention
from tinyllm.nn.block import Block, ParallelBlock
from tinyllm.nn.dropout import Dropout
from tinyllm.nn.embedding import Embedding
from tinyllm.nn.feedforward import FeedForward, GatedFeedForward
from tinyllm.nn.init import normal, ones, zeros
from tinyllm.nn.kv_cache import KVCache, LayerCache
from tinyllm.nn.linear import Linear
from tinyllm.nn.lora import LoRALinear, add_lora, has_lora, lora_disabled, lora_layers, merge_lora
from tinyllm.nn.module import Module, evaluating
from tinyllm.nn.norm import LayerNorm, RMSNorm
from tinyllm.nn.position import Sinusoidal
from tinyllm.nn.quantized import QuantizedEmbedding, QuantizedLinear, quantize
from tinyllm.nn.ragged import Layout, lay_out, run_blocks
from tinyllm.nn.rotary import Rotary, RotaryScaling, rotary_frequencies

__all__ = [
    "Attention", "Block", "Dropout", "Embedding", "FeedForward", "GatedFeedForward", "KVCache", "LayerCache", "LayerNorm",
    "Layout", "Linear", "LoRALinear", "Module", "ParallelBlock", "QuantizedEmbedding", "QuantizedLinear", "RMSNorm", "Rotary",
    "RotaryScaling", "SelfAttention", "Sinusoidal", "add_lora", "evaluating", "has_lora", "lay_out", "lora_disabled",
    "lora_layers", "merge_lora", "normal", "ones", "quantize", "rotary_frequencies", "run_blocks", "zeros",
]  # fmt: skip
