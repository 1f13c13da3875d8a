"""Fixtures that several test files use."""

import os
import tempfile

import jax
import pytest

# The programs that workers keep on disk must not fill the user's own cache; all tests of a run share one folder.
if 'PYTEST_XDIST_WORKER' not in os.environ:
    _folder = tempfile.TemporaryDirectory(prefix='cnn_research-tests-')
    os.environ['XDG_CACHE_HOME'] = _folder.name


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
