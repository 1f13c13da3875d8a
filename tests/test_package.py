"""The package installs from its repository, and the README's layers then work in a foreign folder."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads(ROOT.joinpath('pyproject.toml').read_text('utf-8'))['project']
FOR_EXPERIMENTS_AND_TESTS = {'absl-py', 'pytest', 'pytest-xdist', 'hypothesis', 'flit_core', 'nbclient', 'ipykernel'}
BEYOND_THE_LAYERS = ('tensorflow_datasets', 'array_record', 'PIL', 'sklearn', 'matplotlib', 'jinja2', 'tqdm', 'grain')


def test_dependencies_are_those_of_the_requirements():
    lines = [line.split('#')[0].strip() for line in ROOT.joinpath('requirements.txt').read_text('utf-8').splitlines()]
    required = {line for line in lines if line and line.split('>=')[0] not in FOR_EXPERIMENTS_AND_TESTS}
    assert required == {*PROJECT['dependencies'], *PROJECT['optional-dependencies']['full']}


@pytest.fixture
def repository(tmp_path):
    """A git repository of the working tree as it stands."""
    folder = tmp_path / 'repository'
    folder.mkdir()
    for name in ('cnn_research', 'experiments', 'tests'):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, folder)
    identity = ['-c', 'user.name=nobody', '-c', 'user.email=nobody@localhost']
    for command in (['init', '-q'], ['add', '.'], [*identity, 'commit', '-q', '-m', 'all']):
        subprocess.run(['git', *command], cwd=folder, check=True)
    return folder


@pytest.mark.slow
def test_ten_lines_of_foreign_code_against_an_installed_package(repository, tmp_path):
    site, elsewhere = tmp_path / 'site', tmp_path / 'elsewhere'
    elsewhere.mkdir()
    install = [
        '-m',
        'pip',
        'install',
        '-q',
        '--no-deps',
        '--no-build-isolation',
        '--no-index',
        '--target',
        site,
        f'git+file://{repository}',
    ]
    subprocess.run([sys.executable, *install], check=True)
    assert sorted(path.name for path in site.iterdir()) == ['cnn_research', f'cnn_research-{PROJECT["version"]}.dist-info']
    assert (site / 'cnn_research/report/page.html').exists()

    readme = ROOT.joinpath('README.md').read_text('utf-8')
    (lines,) = [block for block in re.findall(r'```python\n(.*?)```', readme, re.DOTALL) if 'class Mine' in block]
    use = [
        'import sys',
        f'sys.modules.update(dict.fromkeys({BEYOND_THE_LAYERS}))',  # as if not installed
        lines,
        'import jax, jax.numpy as jnp, cnn_research',
        'print(cnn_research.__file__, Mine().init_with_output(jax.random.key(0), jnp.ones((2, 12, 12, 3)))[0].shape)',
    ]
    script = elsewhere / 'mine.py'
    script.write_text('\n'.join(use))
    env = {**os.environ, 'PYTHONPATH': str(site), 'JAX_PLATFORMS': 'cpu'}
    done = subprocess.run([sys.executable, script], cwd=elsewhere, env=env, text=True, capture_output=True, check=True)
    assert done.stdout.split(maxsplit=1) == [str(site / 'cnn_research/__init__.py'), '(2, 10)\n']
