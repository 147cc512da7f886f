import numpy as np
import pytest

from tinyllm import kernels
from tinyllm.kernels.observe import observe_kernels


def test_calls_are_told_with_what_came_of_them_inner_ones_first():
    x, calls = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), []
    kernels.softmax_forward(x)
    with observe_kernels(calls.append):
        result = kernels.softmax_forward(x)
    kernels.softmax_forward(x)
    assert calls[-1].name == "softmax_forward" and calls[-1].result is result and not calls[-1].compiled
    assert all(call.compiled and call.seconds <= calls[-1].seconds for call in calls[:-1])
    assert len(calls) == (1 if kernels.backend() == "numpy" else 2)
    assert all(earlier.start >= calls[-1].start for earlier in calls)


def test_afterwards_everything_is_as_it_was_also_after_an_error():
    before = kernels.softmax_forward
    with pytest.raises(ZeroDivisionError), observe_kernels(lambda call: None):
        assert kernels.softmax_forward is not before
        raise ZeroDivisionError
    assert kernels.softmax_forward is before
