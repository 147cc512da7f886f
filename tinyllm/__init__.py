"""tinyllm: how a language model works, all of it, in NumPy and Numba.

Floors, imports point downwards only:

    12  cli                                             what you type
    11  server                                          pages on this machine
    10  recipes                                          what a command does, from Python; tinyllm.load
     9  report                                            pages and plots of what was measured
     8  rlhf  labels  evaluation                          learning from preferences; measuring
     7  pretraining  finetuning  chat                     what is learned; talking with what has learned it
     6  decoding  training                                loops around a model
     5  models  compile                                   whole architectures; a step of one as one kernel
     4  nn  optim  tokenizers  data                       their parts
     3  ops                                               the calculus: value and backward
     2  autograd                                          Tensor and the chain rule
     1  kernels                                           loops over plain arrays
     0  storage                                           files

Letters, everywhere: B batch, T query positions, S key positions, C model width, H heads, G key/value heads, D head
width, F feed-forward width, V vocabulary, L layers. Masks: True = may attend / counts in the loss. Losses are means
over counted tokens, in nats. The gradient of `name` is `dname`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyllm.autograd import Tensor, no_grad, op
    from tinyllm.recipes.loading import load

__version__ = "0.1.0"
__all__ = ["Tensor", "load", "no_grad", "op", "__version__"]
_PLACES = {
    "Tensor": "tinyllm.autograd",
    "no_grad": "tinyllm.autograd",
    "op": "tinyllm.autograd",
    "load": "tinyllm.recipes.loading",
}


def __getattr__(name: str) -> Any:
    """Tensor, op, no_grad and load at their first use: `tinyllm --help` then need not load NumPy."""
    if name not in _PLACES:
        raise AttributeError(f"module 'tinyllm' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
