"""The most arithmetic this machine can do, measured: multiply-adds on numbers that never leave the registers.

    operations per second = 2 · vectors · numbers in a vector · steps · threads / time        (2: a product and a sum)

Nothing is loaded, nothing waits: twelve vectors of sums are independent, so that the processor can have one multiply-add
in each stage of its pipelines. A real kernel must also fetch its numbers, so no kernel can be faster than this; how near it
comes is the share of the peak that `tinyllm bench` shows ("roofline": Williams, Waterman & Patterson 2009, section 3).
"""

import time

import numpy as np
from llvmlite import ir
from numba import get_num_threads, types
from numba.core import cgutils

from tinyllm.kernels.jit import intrinsic, jit, prange
from tinyllm.kernels.pointers import constant, lanes_of

VECTORS = 12  # independent sums: 4 steps of latency x 2 units would need 8; every processor has 16 registers
SHORTEST = 0.01  # seconds; a shorter run would measure the start of the threads


@intrinsic
def multiply_add(typing_context, n_steps, x):
    """multiply_add(n_steps, x): 12 vectors of sums, each n_steps times s = s · x + x; returns one of the numbers."""

    def codegen(context, builder, signature, args):
        number = context.get_value_type(signature.args[1])
        lanes = lanes_of(signature.args[1])
        vector = ir.VectorType(number, lanes)
        name = f"llvm.fma.v{lanes}f{signature.args[1].bitwidth}"
        fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        factor = ir.Constant(vector, ir.Undefined)
        for lane in range(lanes):
            factor = builder.insert_element(factor, args[1], constant(lane))
        sums = [cgutils.alloca_once_value(builder, factor) for _ in range(VECTORS)]  # LLVM turns these into registers
        with cgutils.for_range(builder, args[0]):
            for place in sums:
                builder.store(builder.call(fma, [builder.load(place), factor, factor]), place)
        total = builder.load(sums[0])
        for place in sums[1:]:  # every sum is used, or the compiler would leave it out
            total = builder.fadd(total, builder.load(place))
        return builder.extract_element(total, constant(0))

    return x(types.intp, x), codegen


@jit(parallel=True)
def _work(n_steps, x):
    """One chain of multiply-adds on each thread; x (threads,) is both what they start from and what they give."""
    for worker in prange(x.size):
        x[worker] = multiply_add(n_steps, x[worker])


def peak_flops(dtype: str = "float32") -> float:
    """Return the floating point operations per second that all threads reach together: the best of five short runs."""
    n_threads, n_steps = get_num_threads(), 1 << 16
    per_step = 2 * VECTORS * lanes_of(getattr(types, dtype)) * n_threads
    best = 0.0
    while True:
        for _ in range(5):
            x = np.full(n_threads, 0.5, dtype)
            start = time.perf_counter()
            _work(n_steps, x)
            seconds = time.perf_counter() - start
            best = max(best, n_steps * per_step / seconds)
        if seconds >= SHORTEST:
            return best
        n_steps *= 4
