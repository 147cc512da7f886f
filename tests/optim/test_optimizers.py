"""AdamW and SGD: one battery for both, then the equations and PyTorch's own numbers (fixtures/make_torch_optim.py)."""

from pathlib import Path

import numpy as np
import pytest

from tinyllm import Tensor, ops
from tinyllm.nn import Linear
from tinyllm.optim import SGD, AdamW

TORCH = np.load(Path(__file__).parents[1] / "fixtures" / "torch_optim.npz")
MAKERS = {
    "adamw_plain": lambda params: AdamW(params, lr=1e-2, weight_decay=0.0),
    "adamw_decay": lambda params: AdamW(params, lr=3e-2, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1),
    "adamw_no_memory": lambda params: AdamW(params, lr=1e-2, betas=(0.0, 0.0)),
    "sgd_plain": lambda params: SGD(params, lr=0.1),
    "sgd_momentum": lambda params: SGD(params, lr=0.05, momentum=0.9),
    "sgd_decay": lambda params: SGD(params, lr=0.05, momentum=0.8, weight_decay=0.1),
}
every_optimizer = pytest.mark.parametrize("name", MAKERS)


def leaf(array, dtype=np.float64):
    return Tensor(np.array(array, dtype), requires_grad=True)


def walk(optimizer, weight, gradients):
    path = []
    for gradient in gradients:
        weight.grad = gradient.astype(weight.dtype)
        optimizer.step()
        path.append(weight.data.copy())
    return np.stack(path)


@every_optimizer
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_ten_steps_are_those_of_torch(name, dtype, tolerance):
    weight = leaf(TORCH["start"], dtype)
    path = walk(MAKERS[name]([weight]), weight, TORCH["gradients"])
    assert path.dtype == dtype
    np.testing.assert_allclose(path, TORCH[name], rtol=tolerance, atol=tolerance * np.abs(TORCH[name]).max())


def test_adamw_is_algorithm_2_of_the_paper():
    lr, beta1, beta2, eps, decay = 0.1, 0.8, 0.9, 1e-3, 0.2
    w = np.array([[1.0, -2.0]])
    m, v = np.zeros_like(w), np.zeros_like(w)
    weight = leaf(w)
    optimizer = AdamW([weight], lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay)
    for t, g in enumerate(np.random.default_rng(0).standard_normal((5, 1, 2)), start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        w = w - lr * (m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps) + decay * w)
        weight.grad = g
        optimizer.step()
        np.testing.assert_allclose(weight.data, w, rtol=1e-13)


def test_the_first_step_of_adam_has_the_size_of_the_learning_rate():
    weight = leaf([[0.0, 0.0, 0.0]])
    weight.grad = np.array([[1e-3, -5.0, 1e4]])
    AdamW([weight], lr=0.01, weight_decay=0.0).step()
    np.testing.assert_allclose(weight.data, [[-0.01, 0.01, -0.01]], rtol=1e-4)


def test_adamw_decays_matrices_and_leaves_vectors():
    matrix, vector, scalar = leaf(np.ones((2, 2))), leaf(np.ones(2)), leaf(1.0)
    for weight in (matrix, vector, scalar):
        weight.grad = np.zeros(weight.shape)
    AdamW([matrix, vector, scalar], lr=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(matrix.data, 0.95)
    assert (vector.data == 1).all() and scalar.data == 1


@every_optimizer
def test_a_weight_without_gradient_is_left_alone(name):
    weight, other = leaf(np.ones((2, 2))), leaf(np.ones((2, 2)))
    weight.grad = np.ones((2, 2))
    MAKERS[name]([weight, other]).step()
    assert (other.data == 1).all() and (weight.data != 1).all() and (weight.version, other.version) == (1, 0)


@every_optimizer
def test_weights_move_in_place_and_gradients_stay(name):
    weight = leaf(np.ones((2, 2)))
    array, weight.grad = weight.data, np.ones((2, 2))
    MAKERS[name]([weight]).step()
    assert weight.data is array and (weight.grad == 1).all()


@every_optimizer
def test_stepping_before_backward_is_refused(name):
    weight = leaf(np.ones((2, 2)))
    optimizer = MAKERS[name]([weight])
    weight.grad = np.ones((2, 2))
    loss = ops.sum(weight * weight)
    optimizer.step()
    with pytest.raises(RuntimeError, match="call backward\\(\\) before optimizer.step"):
        loss.backward()


@every_optimizer
@pytest.mark.parametrize("kind", ["read_only", "transposed", "strided"])
def test_any_weight_array_becomes_an_ordinary_one(name, kind):
    start = TORCH["start"].copy()
    array = {"read_only": start, "transposed": np.asfortranarray(start), "strided": np.repeat(start, 2, axis=1)[:, ::2]}[kind]
    array.flags.writeable = kind != "read_only"
    weight = Tensor(array, requires_grad=True)
    path = walk(MAKERS[name]([weight]), weight, TORCH["gradients"][:3])
    np.testing.assert_allclose(path, TORCH[name][:3], rtol=1e-12, atol=1e-12 * np.abs(TORCH[name]).max())
    np.testing.assert_array_equal(array, TORCH["start"])


@every_optimizer
def test_gradients_in_any_layout_give_the_same_step(name):
    results = []
    for change in (np.ascontiguousarray, np.asfortranarray, lambda g: np.repeat(g, 2, axis=1)[:, ::2]):
        weight = leaf(TORCH["start"])
        optimizer = MAKERS[name]([weight])
        for gradient in TORCH["gradients"][:3]:
            weight.grad = change(gradient)
            optimizer.step()
        results.append(weight.data)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@every_optimizer
def test_two_runs_give_the_same_bits(name):
    gradients = np.random.default_rng(0).standard_normal((3, 70, 300)).astype(np.float32)  # above one block of the kernel
    runs = []
    for _ in range(2):
        weight = leaf(np.ones((70, 300)), np.float32)
        runs.append(walk(MAKERS[name]([weight]), weight, gradients))
    np.testing.assert_array_equal(runs[0], runs[1])


@every_optimizer
def test_a_restored_optimizer_takes_the_same_next_steps(name):
    gradients = TORCH["gradients"]
    weight = leaf(TORCH["start"], np.float32)
    optimizer = MAKERS[name]([weight])
    walk(optimizer, weight, gradients[:4])
    state = {key: array.copy() for key, array in optimizer.state_dict().items()}
    resumed = leaf(weight.data, np.float32)
    expected = walk(optimizer, weight, gradients[4:])
    other = MAKERS[name]([resumed])
    other.load_state_dict(state)
    np.testing.assert_array_equal(walk(other, resumed, gradients[4:]), expected)


@every_optimizer
def test_loading_a_state_that_does_not_fit_lists_it_and_changes_nothing(name):
    weight = leaf(TORCH["start"])
    optimizer = MAKERS[name]([weight])
    walk(optimizer, weight, TORCH["gradients"][:2])
    before = {key: array.copy() for key, array in optimizer.state_dict().items()}
    slot = [key for key in before if key.endswith(".0")][0]
    state = {**before, slot: np.zeros((5, 3)), "surplus.0": np.zeros(1)}
    del state["step"]
    with pytest.raises(ValueError, match="does not fit") as caught:
        optimizer.load_state_dict(state)
    assert all(key in str(caught.value) for key in ("step", slot, "surplus.0"))
    for key, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


@every_optimizer
def test_a_regression_is_learned(name):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 4)).astype(np.float32)
    y = x @ np.array([[1.0], [-2.0], [0.5], [0.0]], np.float32) + 0.3
    layer = Linear(4, 1, rng=rng)
    optimizer = MAKERS[name](layer.parameters())

    def loss():
        error = layer(Tensor(x)) - y
        return ops.mean(error * error)

    first = loss().item()
    for step in range(300):
        optimizer.lr *= 0.99 if step > 150 else 1
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < (0.1 if "decay" in name else 0.01) * first


def test_momentum_crosses_a_narrow_valley_faster():
    def distance(momentum):
        weight = leaf([[10.0, 1.0]])
        optimizer = SGD([weight], lr=0.018, momentum=momentum)
        for _ in range(100):
            optimizer.zero_grad()
            ops.sum(weight * weight * np.array([0.5, 50.0])).backward()
            optimizer.step()
        return np.abs(weight.data).max()

    assert distance(0.8) < distance(0.0) / 100


def test_zero_grad_forgets():
    weight = leaf([1.0])
    weight.grad = np.ones(1)
    SGD([weight], lr=0.1).zero_grad()
    assert weight.grad is None


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: SGD([], lr=0.1), r"params is empty: pass model.parameters\(\)"),
        (lambda: SGD([{"params": []}], lr=0.1), "params is empty"),
        (lambda: SGD([np.ones(2)], lr=0.1), "params holds ndarray, Tensors expected"),
        (lambda: SGD([{"params": [leaf([1.0])], "momentum": 0.9}], lr=0.1), "a group of params has 'momentum'; known are"),
        (lambda: SGD([{"params": [leaf([1.0])]}, leaf([1.0])], lr=0.1), "mixes weights and groups"),
        (lambda: SGD([{"params": [leaf([1.0])], "lr": -1}], lr=0.1), "lr of a group must be .* at least 0, got -1"),
        (lambda: SGD([{"params": [leaf([1.0])], "lr": 0.1}], lr=0.0), "needs lr above 0"),
        (lambda: SGD([leaf([1.0], np.float16)], lr=0.1), "params are float16, float32 or float64 expected"),
        (lambda: SGD([(w := leaf([1.0])), w], lr=0.1), "params hold a weight twice"),
        (lambda: SGD([leaf([1.0])], lr=-0.1), "learning rate, must be at least 0, got -0.1"),
        (lambda: AdamW([leaf([1.0])], lr=float("nan")), "learning rate"),
        (lambda: SGD([leaf([1.0])], lr=0.1, momentum=1.0), r"momentum must be in \[0, 1\), got 1.0"),
        (lambda: AdamW([leaf([1.0])], betas=(0.9, 1.0)), r"betas must be two numbers in \[0, 1\)"),
        (lambda: AdamW([leaf([1.0])], betas=(0.9,)), r"betas must be two numbers"),
        (lambda: AdamW([leaf([1.0])], eps=-1e-8), "eps must be a finite number of at least 0"),
        (lambda: AdamW([leaf([1.0])], weight_decay=float("nan")), "weight_decay must be a finite number"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


# ---- gradients and weights that are not what they were


@every_optimizer
@pytest.mark.parametrize("kind", [np.float64, np.float16])
def test_a_gradient_of_another_float_dtype_is_read_as_numbers(name, kind):
    """float32 times np.float64(0.5) is float64 in NumPy 2: a scaled gradient must not be read as raw memory."""
    gradient = np.array([[0.5, -0.25, 1.0]])
    moved = []
    for dtype in (np.float32, kind):
        weight = leaf(np.zeros((1, 3)), np.float32)
        optimizer = MAKERS[name]([weight])
        weight.grad = gradient.astype(dtype)
        optimizer.step()
        moved.append(weight.data)
    np.testing.assert_array_equal(*moved)
    assert moved[0].all()


STRANGE = {
    "gradient of another shape": (lambda w: setattr(w, "grad", np.ones((2, 1))), r"gradient of params\[0\] is float64 \(2, 1\)"),
    "gradient of whole numbers": (lambda w: setattr(w, "grad", np.ones((2, 2), int)), r"is int64 \(2, 2\), a float array"),
    "gradient that is a Tensor": (lambda w: setattr(w, "grad", Tensor(np.ones((2, 2)))), "is Tensor float64"),
    "gradient that is a number": (lambda w: setattr(w, "grad", 1.0), "is float, a float array"),
    "weight of another dtype": (lambda w: setattr(w, "data", w.data.astype(np.float32)), "is float32 .* now, it was float64"),
    "weight of another shape": (lambda w: setattr(w, "data", np.ones((3, 3))), r"is float64 \(3, 3\) now, it was"),
}


@every_optimizer
@pytest.mark.parametrize("what", STRANGE)
def test_what_no_longer_fits_is_refused_before_anything_moves(name, what):
    other, weight = leaf(np.ones((2, 2))), leaf(np.ones((2, 2)))
    optimizer = MAKERS[name]([weight, other])
    weight.grad = other.grad = np.ones((2, 2))
    change, text = STRANGE[what]
    change(weight)
    with pytest.raises(ValueError, match=text):
        optimizer.step()
    assert (other.data == 1).all() and optimizer.step_count == 0


@every_optimizer
def test_weights_that_became_read_only_are_copied(name):
    """As when a file is mapped into a model after its optimizer was made."""
    weight = leaf(np.ones((2, 2)))
    optimizer = MAKERS[name]([weight])
    mapped = np.full((2, 2), 3.0)
    mapped.flags.writeable = False
    weight.data, weight.grad = mapped, np.ones((2, 2))
    optimizer.step()
    assert (mapped == 3).all() and (weight.data < 3).all()


# ---- groups


def test_a_group_has_its_own_learning_rate_and_follows_the_schedule():
    body, head = leaf(np.zeros((1, 2))), leaf(np.zeros((1, 2)))
    for make in (lambda params: AdamW(params, lr=1e-2, weight_decay=0.0), lambda params: SGD(params, lr=1e-2)):
        body.data[:] = head.data[:] = 0
        optimizer = make([{"params": [body]}, {"params": head, "lr": 1e-1}])
        for lr in (1e-2, 5e-3):
            before = body.data.copy(), head.data.copy()
            optimizer.lr = lr
            body.grad = head.grad = np.ones((1, 2))
            optimizer.step()
            np.testing.assert_allclose(body.data - before[0], -lr, rtol=1e-6)
            np.testing.assert_allclose(head.data - before[1], -10 * lr, rtol=1e-6)


def test_a_groups_own_decay_is_for_vectors_too():
    matrix, vector, kept = leaf(np.ones((2, 2))), leaf(np.ones(2)), leaf(np.ones((2, 2)))
    groups = [{"params": [matrix, vector], "weight_decay": 0.5}, {"params": [kept], "weight_decay": 0.0}]
    for make in (lambda g: AdamW(g, lr=0.1), lambda g: SGD(g, lr=0.1, weight_decay=0.7)):
        for weight in (matrix, vector, kept):
            weight.data[:], weight.grad = 1, np.zeros(weight.shape)
        make(groups).step()
        np.testing.assert_allclose(np.array([matrix.data[0, 0], vector.data[0], kept.data[0, 0]]), [0.95, 0.95, 1])


def test_one_group_is_the_same_bits_as_no_group():
    paths = []
    for wrap in (lambda params: params, lambda params: [{"params": params}]):
        weight = leaf(TORCH["start"], np.float32)
        paths.append(walk(AdamW(wrap([weight]), lr=1e-2), weight, TORCH["gradients"]))
    np.testing.assert_array_equal(*paths)


# ---- settings in the state


def test_the_state_holds_the_settings_and_an_older_one_without_them_is_read():
    weight = leaf(np.ones((2, 2)))
    optimizer = AdamW([weight], lr=3e-3, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.2)
    weight.grad = np.ones((2, 2))
    optimizer.step()
    state = {name: array.copy() for name, array in optimizer.state_dict().items()}
    other = AdamW([leaf(np.ones((2, 2)))])
    other.load_state_dict(state)
    assert (other.lr, other.betas, other.eps, other.weight_decay) == (3e-3, (0.8, 0.95), 1e-6, 0.2)
    older = AdamW([leaf(np.ones((2, 2)))], lr=0.5)
    older.load_state_dict({name: array for name, array in state.items() if not name.startswith("settings.")})
    assert (older.lr, older.step_count) == (0.5, 1)
