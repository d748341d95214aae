"""Every method computes the same on one device as on many, with its random views on."""

import jax
import numpy as np
import pytest
import tiny

from ssl_jax.methods import METHODS


@pytest.mark.parametrize("method", METHODS)
def test_loss_and_gradients_do_not_depend_on_the_number_of_devices(method):
  (loss, gradients), (loss8, gradients8) = (
      tiny.loss_and_gradients_on(tiny.mesh_of(n), method) for n in (1, 8))
  np.testing.assert_allclose(loss8, loss, rtol=1e-5)
  # Measured 4e-7 to 1.3e-6 of the largest entry: the order of f32 sums, and nothing else.
  difference = jax.tree.map(np.subtract, gradients8, gradients)
  assert tiny.largest(difference) < 1e-5 * tiny.largest(gradients)
  assert tiny.largest(gradients) > 1e-3
