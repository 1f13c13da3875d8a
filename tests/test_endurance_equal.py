"""What must be refused, and what must change no bit, over all cases: python -m pytest -m endurance"""

import itertools
from pathlib import Path

import jax
import numpy as np
import pytest
from test_endurance import TINY
from test_keeping import KINDS, checkpoint_leaves, keeper, of_kind
from test_sweep import bits, finish, start
from test_train import noise, posed

from cnn_research import checkpoint, errors, keeping, pace, train


def others(leaf):
    """The same leaf as every other type of its size or half, and in other shapes."""
    types = [np.dtype(name) for name in ('bool', 'int8', 'int32', 'uint32', 'float16', 'float32', 'float64')]
    yield from (jax.ShapeDtypeStruct(leaf.shape, kind) for kind in types if kind != leaf.dtype)
    yield from (jax.ShapeDtypeStruct(shape, leaf.dtype) for shape in ((*leaf.shape, 1), (1, *leaf.shape)))
    for axis in range(len(leaf.shape)):
        for side in (leaf.shape[axis] + 1, 0):
            yield jax.ShapeDtypeStruct((*leaf.shape[:axis], side, *leaf.shape[axis + 1 :]), leaf.dtype)
    yield from (jax.ShapeDtypeStruct(shape, leaf.dtype) for shape in {leaf.shape[::-1], leaf.shape[1:]} - {leaf.shape})


@pytest.mark.endurance
def test_every_leaf_of_another_type_shape_or_name_is_refused(tmp_path, record_property):
    counts = {'types and shapes': 0, 'names': 0}
    for i, kind in enumerate(KINDS):
        c = of_kind(kind)
        p, _, _ = posed(c, noise())
        keeps, _ = keeper(tmp_path / str(i), c)
        with keeps:
            keeps.save(train.begin(p, [0]))
        path, saved = checkpoint.newest(tmp_path / str(i), 'a', print)
        template = keeping._leaves(train.begin(p, [0], shapes=True))
        checkpoint.check(path, saved.leaves, template)
        for name, leaf in template.items():
            rest = {other: its for other, its in template.items() if other != name}
            wrong = [{**template, name: other} for other in others(leaf)]
            for expected in (*wrong, rest, {**rest, f'{name}_': leaf}):
                with pytest.raises(errors.InputError) as refused:
                    checkpoint.check(Path('file'), saved.leaves, expected)
                assert name in str(refused.value)
            counts['types and shapes'] += len(wrong)
            counts['names'] += 2
    text = ', '.join(f'{count:,} {what}' for what, count in counts.items())
    record_property('figure', f'states of {len(KINDS)} kinds of trainings against other templates: {text}, all refused with their path')


@pytest.mark.endurance
def test_neighbours_workers_and_savings_change_no_bit(tmp_path, record_property):
    found = {}
    arms = TINY[0].removeprefix('--arms=').split(',')
    for workers, together in itertools.product((1, 2, 3), (True, False)):
        folder = tmp_path / f'{workers} {together}'
        for part in [arms] if together else [arms[i : i + 1] for i in reversed(range(len(arms)))]:
            finish(start(folder, *TINY[1:], f'--arms={",".join(part)}', '--seeds=4', f'--workers={workers}'))
        found[workers, together] = bits(folder)
    finish(start(tmp_path / 'saved', *TINY, '--seeds=4', '--workers=2', '--save_every=0.001'))
    found['saved all the time'] = bits(tmp_path / 'saved')
    first = next(iter(found.values()))
    differing = [how for how, its in found.items() if its != first]
    record_property('figure', f'20 cells run in {len(found)} ways (workers, neighbours, savings): {len(differing)} differ in any bit')
    assert not differing


@pytest.mark.endurance
def test_chunks_of_any_size_change_no_bit(monkeypatch, record_property):
    differing, sizes = 0, (0.0, 0.002, 0.01, 100.0)
    for kind in KINDS:
        p, arrays, _ = posed(of_kind(kind), noise())
        ends = []
        for seconds in sizes:
            monkeypatch.setattr(pace, '_CHUNK_SECONDS', seconds)
            ends.append(checkpoint_leaves(train.fit(p, arrays, 3).state))
        differing += sum(end != ends[0] for end in ends)
    record_property('figure', f'{len(KINDS)} kinds of trainings in chunks of {len(sizes)} lengths: {differing} differ in any bit')
    assert differing == 0
