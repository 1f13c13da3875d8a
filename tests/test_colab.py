"""The notebook runs from its first cell to its last as on a fresh machine, and leaves the packages that were there as they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_notebook_runs_with_small_settings(tmp_path):
    nbclient, nbformat = pytest.importorskip('nbclient'), pytest.importorskip('nbformat')
    pytest.importorskip('ipykernel')
    subprocess.run(['git', 'clone', '--quiet', str(ROOT), str(tmp_path / 'source')], check=True)
    notebook = nbformat.read(ROOT / 'experiments/colab.ipynb', as_version=4)
    nbformat.validate(notebook)
    before = subprocess.run([sys.executable, '-m', 'pip', 'freeze'], capture_output=True, text=True, check=True).stdout
    client = nbclient.NotebookClient(notebook, timeout=600, resources={'metadata': {'path': str(tmp_path)}})
    small = {
        'CNN_RESEARCH_SOURCE': str(tmp_path / 'source'),
        'CNN_RESEARCH_FLAGS': '--epochs=1 --train_size=128 --features=4,8 --workers=1 --seeds=1',
    }
    client.execute(env={**os.environ, 'JAX_PLATFORMS': 'cpu', **small})
    said = [''.join(output.get('text', '') for output in cell.outputs) for cell in notebook.cells if cell.cell_type == 'code']
    assert f'jax=={_version("jax")}' in said[0] and 'NO ACCELERATOR' in said[1]
    assert 'conv_gmp' in said[2] and 'local_gmp' in said[2] and 'report.html' in said[2] and 'This is not Colab' in said[-1]
    assert 'gap' in said[5]
    drawn = [output for cell in notebook.cells for output in cell.get('outputs', ()) if 'image/svg+xml' in output.get('data', {})]
    assert len(drawn) > 2
    assert subprocess.run([sys.executable, '-m', 'pip', 'freeze'], capture_output=True, text=True, check=True).stdout == before


def _version(name):
    from importlib import metadata

    return metadata.version(name)
