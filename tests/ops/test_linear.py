"""The linear map against NumPy, and what does not fit it."""

import numpy as np
import pytest

from tinyllm import ops

RNG = np.random.default_rng(0)


def test_linear_is_the_matrix_product_and_refuses_what_does_not_fit():
    x, weight, bias = RNG.standard_normal((2, 3, 4)), RNG.standard_normal((5, 4)), RNG.standard_normal(5)
    np.testing.assert_allclose(ops.linear(x, weight, bias).data, x @ weight.T + bias, atol=1e-14)
    for arguments, text in [
        ((x, weight[:, :3], None), r"weight \(5, 3\) came with x \(2, 3, 4\), expected \(out, 4\)"),
        ((x, weight[0], None), r"weight \(4,\) came"),
        ((x, weight, bias[:1]), r"bias \(1,\) came, \(5,\) expected"),
        ((x.astype(np.float32), weight, bias), "linear: x float32, weight float64, bias float64"),
    ]:
        with pytest.raises(ValueError, match=text):
            ops.linear(*arguments)
