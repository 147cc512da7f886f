"""Every kernel in plain NumPy: the slow, obvious twin of the compiled code, and what to read first.

Each function has the name, arguments and results of its compiled twin, and does nothing but write the equation down.
The tests compare the two, so what stands here is what the kernels mean. TINYLLM_KERNELS=numpy runs the whole library
on these files: no compiler, no threads, the same mathematics.
Letters: rows are everything but the last axis, C long (V for logits); `dname` is the gradient of the loss by `name`.
"""

from tinyllm.kernels.reference.activations import (
    gelu_erf_backward,
    gelu_erf_forward,
    gelu_tanh_backward,
    gelu_tanh_forward,
    silu_backward,
    silu_forward,
)
from tinyllm.kernels.reference.adamw import adamw_update, sum_of_squares
from tinyllm.kernels.reference.attention import attention_backward, attention_forward
from tinyllm.kernels.reference.embedding import embedding_backward, embedding_forward, rotary_backward, rotary_forward
from tinyllm.kernels.reference.norm import layer_norm_backward, layer_norm_forward, rms_norm_backward, rms_norm_forward
from tinyllm.kernels.reference.products import (
    gelu_linear_backward,
    int8_linear_forward,
    linear_forward,
    linear_gelu_forward,
    linear_silu_gate_forward,
    matmul,
    matmul_add,
    silu_gate_linear_backward,
)
from tinyllm.kernels.reference.row_program import RowProgram
from tinyllm.kernels.reference.sampling import sample_rows
from tinyllm.kernels.reference.softmax import (
    cross_entropy_backward,
    cross_entropy_forward,
    log_softmax_backward,
    log_softmax_forward,
    softmax_backward,
    softmax_forward,
)

__all__ = [
    "RowProgram", "adamw_update", "attention_backward", "attention_forward", "cross_entropy_backward", "cross_entropy_forward",
    "embedding_backward", "embedding_forward", "gelu_erf_backward", "gelu_erf_forward", "gelu_linear_backward",
    "gelu_tanh_backward", "gelu_tanh_forward", "int8_linear_forward", "layer_norm_backward", "layer_norm_forward",
    "linear_forward", "linear_gelu_forward", "linear_silu_gate_forward", "log_softmax_backward", "log_softmax_forward", "matmul",
    "matmul_add", "rms_norm_backward", "rms_norm_forward", "rotary_backward", "rotary_forward", "sample_rows", "silu_backward",
    "silu_forward", "silu_gate_linear_backward", "softmax_backward", "softmax_forward", "sum_of_squares",
]  # fmt: skip
