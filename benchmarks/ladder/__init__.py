"""The ladder: from the plain Python loop to the fast kernel, one idea a rung, each rung checked before it is timed.

    python -m benchmarks.ladder [--only matmul ...] [--picture ladder.png] [--markdown] [--quick]
    python -m benchmarks.ladder --products        tinyllm's matrix product against NumPy's BLAS, shape by shape

Open softmax.py first, then matmul.py: the rungs stand one under the other. machine.py measures the limits that every rung
is compared with, rungs.py checks and times, timing.py lets the rungs take turns. What it all means: benchmarks/README.md.
"""
