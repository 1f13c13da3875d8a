"""Fixtures that several test files use."""

import os
import tempfile

import jax
import pytest

jax.config.update('jax_num_cpu_devices', 8)  # for meshes; everything else uses the first
# The programs that workers keep on disk must not fill the user's own cache; all tests of a run share one folder.
if 'PYTEST_XDIST_WORKER' not in os.environ:
    _folder = tempfile.TemporaryDirectory(prefix='cnn_research-tests-')
    os.environ['XDG_CACHE_HOME'] = _folder.name


def pytest_collection_modifyitems(config, items):
    """Endurance tests run only where -m names them. (A -m in addopts would be lost to any other one on the command line.)"""
    if 'endurance' not in config.option.markexpr:
        long = [item for item in items if item.get_closest_marker('endurance')]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_terminal_summary(terminalreporter):
    """The figures that tests found, together at the end."""
    reports = [report for kind in ('passed', 'failed') for report in terminalreporter.stats.get(kind, ())]
    figures = [value for report in reports for name, value in report.user_properties if name == 'figure']
    if figures:
        terminalreporter.section('figures')
        terminalreporter.write_line('\n'.join(figures))


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
