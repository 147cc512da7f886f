"""Ops: the calculus. Each is an equation, its value and its backward, over plain arrays; the loops are in `kernels`.

The ops behind Python's operators (+ - * / ** @ and indexing) stand beside Tensor in `autograd/tensor.py`.
"""

from tinyllm.kernels.attention.visibility import CAUSAL, EVERYTHING, Visibility, causal_mask, end_to_end
from tinyllm.ops.activations import gelu, log_sigmoid, relu, sigmoid, silu, tanh
from tinyllm.ops.attention import attention, self_attention
from tinyllm.ops.cross_entropy import cross_entropy, token_log_probs
from tinyllm.ops.dropout import dropout
from tinyllm.ops.einsum import einsum
from tinyllm.ops.elementwise import absolute, clip, exp, log, maximum, minimum, sqrt, where
from tinyllm.ops.embedding import embedding
from tinyllm.ops.feedforward import gelu_feedforward, silu_feedforward
from tinyllm.ops.int8 import int8_embedding, int8_linear
from tinyllm.ops.linear import linear
from tinyllm.ops.linear_cross_entropy import linear_cross_entropy
from tinyllm.ops.norm import layer_norm, rms_norm
from tinyllm.ops.reduce import cumsum, max, mean, min, prod, std, sum, var
from tinyllm.ops.rotary import rotary
from tinyllm.ops.shape import concatenate, pad, pad_rows, repeat, reshape, split, stack, take_along, transpose, tril, triu
from tinyllm.ops.softmax import entropy, log_softmax, softmax

__all__ = [
    "CAUSAL", "EVERYTHING", "Visibility", "absolute", "attention", "causal_mask", "clip", "concatenate", "cross_entropy",
    "cumsum", "dropout", "einsum", "embedding", "end_to_end", "entropy", "exp", "gelu", "gelu_feedforward", "int8_embedding",
    "int8_linear", "layer_norm", "linear", "linear_cross_entropy", "log", "log_sigmoid", "log_softmax", "max", "maximum",
    "mean", "min", "minimum", "pad", "pad_rows", "prod", "relu", "repeat", "reshape", "rms_norm", "rotary", "self_attention",
    "sigmoid", "silu", "silu_feedforward", "softmax", "split", "sqrt", "stack", "std", "sum", "take_along", "tanh",
    "token_log_probs", "transpose", "tril", "triu", "var", "where",
]  # fmt: skip
