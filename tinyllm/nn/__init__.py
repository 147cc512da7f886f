"""Layers: an op plus its weights. Each file is one idea; `module.py` is how they hold together."""

from tinyllm.nn.attention import SelfAttention
from tinyllm.nn.block import Block
from tinyllm.nn.dropout import Dropout
from tinyllm.nn.embedding import Embedding
from tinyllm.nn.feedforward import FeedForward
from tinyllm.nn.init import normal, ones, zeros
from tinyllm.nn.kv_cache import KVCache, LayerCache
from tinyllm.nn.linear import Linear
from tinyllm.nn.lora import LoRALinear, add_lora, has_lora, lora_disabled, lora_layers, merge_lora
from tinyllm.nn.module import Module, evaluating
from tinyllm.nn.norm import LayerNorm, RMSNorm
from tinyllm.nn.position import positions_from_mask, rotary_angles
from tinyllm.nn.quantized import QuantizedEmbedding, QuantizedLinear, quantize

__all__ = [
    "Block", "Dropout", "Embedding", "FeedForward", "KVCache", "LayerCache", "LayerNorm", "Linear", "LoRALinear", "Module",
    "QuantizedEmbedding", "QuantizedLinear", "RMSNorm", "SelfAttention", "add_lora", "evaluating", "has_lora", "lora_disabled",
    "lora_layers", "merge_lora", "normal", "ones", "positions_from_mask", "quantize", "rotary_angles", "zeros",
]  # fmt: skip
