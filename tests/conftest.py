"""Fixtures that several test files use."""

import jax
import pytest


@pytest.fixture
def x64():
    """Float64 within one test; every other test stays in float32."""
    if hasattr(jax, 'enable_x64'):  # from jax 0.8 on
        context = jax.enable_x64(True)
    else:
        from jax import experimental

        context = experimental.enable_x64()
    with context:
        yield
