"""A step of generation, recorded once and run as one kernel, for any model that is made of the ops in a table.

    recording   one ordinary step is watched: which op read what (`autograd.observe_ops`)
    lowering    each op becomes instructions of a program; `lowering.py` has the table
    running     a step is then one launch, in which each row has its own length

| limit | why |
|---|---|
| one token a row, a cache that grows by it | prompts are read by the model itself |
| a model of ops in `LOWERINGS`: GPT, Llama and relatives, LoRA, int8 | another op: the model goes on as before |
| at most 2²⁴ float weights in products, 2²⁶ in int8 | with more, reading them is what takes long, and two threads read faster |
| 6 steps to come, and one more for each 2¹⁹ float weights | a packed copy of the weights is made, which must be won back |
| the program gives the logits of the watched step, to 1e-3 of the largest | something may have happened that was no op |
"""

from tinyllm.compile.lowering import LOWERINGS
from tinyllm.compile.step import ENOUGH_STEPS, CompiledStep, NotYet, compile_step, record

__all__ = ["CompiledStep", "ENOUGH_STEPS", "LOWERINGS", "NotYet", "compile_step", "record"]
