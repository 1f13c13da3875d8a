"""What the code must never do with its input, found in the source; and names that would lead out of their folder."""

import ast
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from cnn_research import ablation, data, errors, ledger

ROOT = Path(ledger.__file__).parents[1]
SOURCES = sorted(path for package in ('cnn_research', 'experiments') for path in (ROOT / package).rglob('*.py'))

MODULES = {'pickle', '_pickle', 'cPickle', 'cloudpickle', 'dill', 'joblib', 'shelve', 'marshal', 'yaml', 'zipfile'}
OBJECTS = {'eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen', 'subprocess.getoutput', 'shutil.unpack_archive', 'torch.load'}
METHODS = {'extract', 'extractall'}  # of archives


def offences(source):
    """Every use of what runs, unpickles or unpacks input, as 'what' by line number."""
    tree = ast.parse(source)
    full = {}  # what an imported name stands for, where that is not itself
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            name = f'{node.module}.{alias.name}' if isinstance(node, ast.ImportFrom) else alias.name
            if name.partition('.')[0] in MODULES:
                yield node.lineno, name
            if alias.asname or isinstance(node, ast.ImportFrom):
                full[alias.asname or alias.name] = name
    safe = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and has_false(node, 'allow_pickle')}
    for node in ast.walk(tree):
        name = dotted(node, full)
        if name in OBJECTS or (name == 'numpy.load' and id(node) not in safe):
            yield node.lineno, name
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            yield node.lineno, node.attr
        if isinstance(node, ast.Call) and any(keyword.arg == 'shell' for keyword in node.keywords) and not has_false(node, 'shell'):
            yield node.lineno, 'shell'


def dotted(node, full):
    """The full name of what `a.b.c` refers to; None for another expression."""
    if isinstance(node, ast.Name):
        return full.get(node.id, node.id)
    before = dotted(node.value, full) if isinstance(node, ast.Attribute) else None
    return before and f'{before}.{node.attr}'


def has_false(call, name):
    """Whether a call is given False, in so many letters, for an argument."""
    return any(
        keyword.arg == name and isinstance(keyword.value, ast.Constant) and keyword.value.value is False for keyword in call.keywords
    )


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_runs_unpickles_or_unpacks_its_input(path):
    assert list(offences(path.read_text('utf-8'))) == []


@pytest.mark.parametrize('source', [
    'import pickle\npickle.loads(x)', 'from pickle import loads as f\nf(x)', 'eval(x)', 'run = exec', '__import__(x)',
    'import numpy as np\nnp.load(x)', 'import numpy as np\nnp.load(x, allow_pickle=True)', 'from numpy import load\nload(x)',
    'import numpy as np\nread = np.load', 'import numpy as np\nnp.load(x, **y)', 'import numpy\nnumpy.load(x, allow_pickle=y)',
    'import yaml\nyaml.load(x)', 'import subprocess\nsubprocess.run(x, shell=True)', 'from subprocess import run\nrun(x, shell=y)',
    'import os\nos.system(x)', 'tar.extractall()', 'import tarfile\ntarfile.open(x).extract(y)', 'import zipfile as z\nz.ZipFile(x)',
    'import shutil as s\ns.unpack_archive(x)',
])  # fmt: skip
def test_the_search_finds(source):
    assert list(offences(source))


@pytest.mark.parametrize('source', [
    'import numpy as np\nnp.load(x, allow_pickle=False)', 'import re\nre.compile(x)', 'model.eval()', 'tar.extractfile(x)',
    'import subprocess\nsubprocess.run(x, shell=False)', "'eval(x)'",
])  # fmt: skip
def test_the_search_leaves_alone(source):
    assert list(offences(source)) == []


LEADING_OUT = (
    '../x',
    '../../x',
    'a/../../b',
    '/etc/passwd',
    'a\0b',
    '',
    'x' * 5000,
    'x/' + 'y' * 300,
    '..',
    '.',
    'mnist/../mnist',
    'a\\..\\b',
)


@pytest.mark.parametrize('family', ['', 'digits/', 'edges/', 'red_green/', 'mnist/', 'mnist:'])
@pytest.mark.parametrize('name', LEADING_OUT, ids=lambda name: repr(name[:16]))
def test_data_sets_whose_names_lead_out_of_the_folder_are_refused(family, name, tmp_path):
    (tmp_path / 'x').mkdir()
    (tmp_path / 'data').mkdir()
    if family + name not in ('digits/', 'edges/', 'red_green/'):  # these are the sets as they are
        with pytest.raises(errors.InputError):
            data.load(family + name, data_dir=str(tmp_path / 'data'))
    assert [path.name for path in sorted(tmp_path.rglob('*'))] == ['data', 'x']


@pytest.mark.parametrize('folder', ['a\0b', 'x' * 5000, '{}/' + 'y' * 300], ids=['zero', 'long', 'long name'])
@pytest.mark.parametrize('flag', ['data_dir', 'raw_dir'])
def test_folders_that_cannot_be_are_refused(folder, flag, tmp_path, monkeypatch):
    monkeypatch.setattr(data.sources.network, 'answers', lambda url: False)
    with pytest.raises(errors.InputError):
        data.load('mnist', **{'data_dir': str(tmp_path), flag: folder.format(tmp_path)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('cell', LEADING_OUT, ids=lambda name: repr(name[:16]))
def test_cells_whose_names_lead_out_of_the_folder_are_refused(cell, tmp_path):
    book = ledger.Ledger(tmp_path / 'study')
    book.create({})
    book.record({'cell': 'a-seed0'}, [], {'w': np.zeros(1, np.float32)})
    np.savez(tmp_path / 'x.npz', w=np.ones(1, np.float32))
    with pytest.raises(errors.InputError, match='unknown finished cell'):
        book.parameters(cell)


def test_arms_are_names_of_files():
    modules = [importlib.import_module(f'experiments.{path.stem}') for path in SOURCES if path.parent.name == 'experiments']
    found = [module.EXPERIMENT for module in modules if isinstance(getattr(module, 'EXPERIMENT', None), ablation.Experiment)]
    names = [name for experiment in found for name in (experiment.name, *experiment.arms)]
    assert len(found) >= 8 and all(re.fullmatch(r'[A-Za-z0-9_][A-Za-z0-9_.\-]{,99}', name) for name in names)
