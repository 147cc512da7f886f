"""What a thread does besides computing: no graph inside no_grad, and what observers are told."""

import threading

import numpy as np
import pytest

from tinyllm import Tensor, no_grad, ops
from tinyllm.autograd import NonFiniteError, detect_nonfinite, observe_ops, observed
from tinyllm.autograd.modes import BACKWARD, FORWARD, MODE, WHOLE


def leaf(*values):
    return Tensor(np.array(values, np.float64), requires_grad=True)


def test_no_grad_is_restored_after_an_error_and_nests():
    with pytest.raises(KeyError), no_grad():
        with no_grad():
            pass
        assert not MODE.recording
        raise KeyError
    assert MODE.recording


def test_no_grad_works_as_a_decorator():
    @no_grad()
    def double(x):
        return x * 2.0

    assert not double(leaf(1.0)).requires_grad


def test_an_observer_sees_a_straight_line_of_calls_from_inputs_to_result():
    x, weight, calls = leaf(2.0), leaf(3.0), []
    with observe_ops(calls.append):
        y = x * weight
        with no_grad():
            ops.sum(y, axis=0, keepdims=True)
        z = ops.exp(y)
    ops.exp(z)
    assert [(call.op, call.phase) for call in calls] == [(name, FORWARD) for name in ("multiply", "sum", "exp")]
    assert calls[0].inputs == (x, weight) and calls[0].out is y and calls[2].inputs == (y,) and calls[2].out is z
    assert calls[1].settings == {"axis": 0, "keepdims": True}
    assert all(call.seconds > 0 for call in calls) and calls[0].start < calls[1].start < calls[2].start


def test_an_observer_sees_the_walk_backward_op_by_op_and_where_gradients_go():
    x, calls = leaf(2.0), []
    loss = x * 3.0 + 1.0
    with observe_ops(calls.append):
        loss.backward()
    assert [(call.op, call.phase) for call in calls] == [("add", BACKWARD), ("multiply", BACKWARD), ("backward", WHOLE)]
    (to, nowhere), (gradient, _) = calls[1].inputs, calls[1].out
    assert to is x and nowhere is None and gradient.item() == 3
    assert calls[2].start <= calls[0].start and calls[0].seconds + calls[1].seconds <= calls[2].seconds


def test_all_observers_see_a_call_and_the_last_is_gone_after_an_error():
    outer, inner = [], []
    with observe_ops(outer.append):
        with pytest.raises(KeyError), observe_ops(inner.append):
            leaf(1.0) * 2.0
            raise KeyError
        leaf(1.0) + 2.0
    leaf(1.0) - 2.0
    assert [call.op for call in outer] == ["multiply", "add"] and [call.op for call in inner] == ["multiply"]
    assert MODE.observers == ()


def test_an_observer_s_error_stops_what_runs():
    def refuse(call):
        raise LookupError(call.op)

    with pytest.raises(LookupError, match="exp"), observe_ops(refuse):
        ops.exp(leaf(1.0))


def test_a_function_marked_observed_is_seen_and_stays_what_it_was():
    @observed("half")
    def halve(x, *, twice=False):
        """x / 2."""
        return x / 4 if twice else x / 2

    calls = []
    with observe_ops(calls.append):
        assert halve(8, twice=True) == 2
    assert halve(8) == 4 and halve.__doc__ == "x / 2."
    (call,) = calls
    assert call[:5] == ("half", WHOLE, (8,), {"twice": True}, 2)


def test_ops_of_another_thread_are_not_seen():
    calls = []
    with observe_ops(calls.append):
        thread = threading.Thread(target=lambda: leaf(1.0) * 2.0)
        thread.start()
        thread.join()
    assert calls == []


def test_no_grad_in_one_thread_leaves_another_recording():
    entered, finish, recorded = threading.Event(), threading.Event(), []

    def serve():
        with no_grad():
            entered.set()
            finish.wait(5)
            recorded.append((leaf(1.0) * 2.0).requires_grad)

    thread = threading.Thread(target=serve)
    thread.start()
    assert entered.wait(5)
    recorded.append((leaf(1.0) * 2.0).requires_grad)
    finish.set()
    thread.join()
    assert recorded == [True, False]


def test_detect_nonfinite_names_the_op_of_a_bad_value():
    with pytest.raises(NonFiniteError, match="value of op 'log' is not finite") as caught:
        with detect_nonfinite(), np.errstate(divide="ignore"):
            ops.exp(ops.log(leaf(0.0)))
    assert (caught.value.op, caught.value.phase) == ("log", "value")


def test_detect_nonfinite_names_the_op_of_a_bad_gradient():
    with pytest.raises(NonFiniteError, match="gradient of op 'sqrt' is not finite"):
        with detect_nonfinite(), np.errstate(divide="ignore"):
            (ops.sqrt(leaf(0.0)) * 1.0).backward()


def test_nothing_is_checked_outside_detect_nonfinite():
    with np.errstate(divide="ignore"):
        assert ops.log(leaf(0.0)).item() == -np.inf
    assert MODE.observers == ()


def test_a_bad_gradient_that_nobody_wants_is_no_reason_to_stop():
    x, shrink = leaf(1e300), Tensor(np.array([1e-300]))
    with detect_nonfinite(), np.errstate(over="ignore"):
        (x * shrink * 1e10).backward()  # that of `shrink` would be 1e310
    assert np.isfinite(x.grad).all()
