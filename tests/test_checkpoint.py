"""Checkpoints: what is read is to the bit what was written, or is refused; two generations; another network's arrays are never taken."""

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cnn_research import checkpoint, errors
from cnn_research.checkpoint import Saved

DTYPES = [np.dtype(name) for name in ('bool', 'uint8', 'int32', 'int64', 'uint32', 'float32', 'float64')]
LEAVES = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
FACTS = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(), lambda each: st.lists(each, max_size=3), max_leaves=5
)
SAVED = st.builds(
    Saved,
    st.dictionaries(st.text(min_size=1), LEAVES, max_size=4),
    st.dictionaries(st.text(), FACTS, max_size=3),
    st.dictionaries(st.text(), st.text(), max_size=3),
)
STATE = Saved(
    {'state/kernel': np.arange(6, dtype=np.float32).reshape(2, 3), 'state/step': np.array(7, np.int32)}, {'epoch': 1}, {'jax': '1'}
)


def bits(saved):
    return {path: (leaf.dtype, leaf.shape, leaf.tobytes()) for path, leaf in saved.leaves.items()}, saved.facts, saved.made_by


def told():
    """A list and what adds to it."""
    heard = []
    return heard, heard.append


@given(SAVED)
def test_what_is_decoded_is_what_was_encoded(saved):
    assert bits(checkpoint.decode(b''.join(checkpoint.encoded(saved)))) == bits(saved)


def test_bits_that_compare_as_other_numbers_and_short_floats_come_back():
    odd = np.array([np.nan, -0.0, np.inf, 1e-45], np.float32)
    odd.view(np.uint32)[0] = 0x7FC12345  # a NaN of its own
    saved = Saved({'odd': odd, 'short': odd.astype(ml_dtypes.bfloat16), 'turned': np.arange(6.0).reshape(2, 3).T}, {}, {})
    assert bits(checkpoint.decode(b''.join(checkpoint.encoded(saved)))) == bits(saved)


def test_a_type_that_is_not_written_is_refused(tmp_path):
    with pytest.raises(TypeError, match='x is complex128; written are bool'):
        checkpoint.save(tmp_path, 'a', 1, Saved({'x': np.zeros(2, complex)}, {}, {}))
    assert list(tmp_path.iterdir()) == []


def test_any_damage_is_noticed():
    content = b''.join(checkpoint.encoded(STATE))
    damaged = [content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :] for at in range(len(content))]
    damaged += [content[:at] for at in range(len(content))] + [content + b'\n', content + content]
    for other in damaged:
        with pytest.raises(checkpoint.DamagedError):
            checkpoint.decode(other)


def test_the_two_newest_are_kept_and_a_damaged_one_is_told_and_passed_over(tmp_path):
    for number in (9, 10, 2, 11):
        checkpoint.save(tmp_path, 'a', number, STATE._replace(facts={'number': number}))
    checkpoint.save(tmp_path, 'a.1', 5, STATE)  # the name of another
    assert checkpoint.numbers(tmp_path, 'a') == [10, 11]
    heard, warn = told()
    assert checkpoint.newest(tmp_path, 'a', warn)[1].facts == {'number': 11} and not heard
    (tmp_path / 'a.11.checkpoint').write_bytes((tmp_path / 'a.11.checkpoint').read_bytes()[:-9])
    assert checkpoint.newest(tmp_path, 'a', warn)[1].facts == {'number': 10}
    assert len(heard) == 1 and 'a.11.checkpoint is damaged' in heard[0] and 'SHA-256' in heard[0]
    (tmp_path / 'a.10.checkpoint').write_bytes(b'')
    assert checkpoint.newest(tmp_path, 'a', warn) is None and 'does not begin as one' in heard[-1]
    assert [path.name for path in tmp_path.iterdir()] == ['a.1.5.checkpoint']
    checkpoint.remove(tmp_path, 'a.1')
    assert checkpoint.newest(tmp_path / 'nowhere', 'a', warn) is None and list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_just_now_is_not_taken_for_damaged(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 'a', 1, STATE)

    def stale(path):
        raise OSError(116, 'Stale file handle')

    monkeypatch.setattr(Path, 'read_bytes', stale)
    with pytest.raises(errors.InputError, match=r'cannot be read \(Stale file handle\)'):
        checkpoint.newest(tmp_path, 'a', print)
    assert checkpoint.numbers(tmp_path, 'a') == [1]


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 'a', 1, STATE)

    def full(number):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space'):
        checkpoint.save(tmp_path, 'a', 2, STATE)
    assert [path.name for path in tmp_path.iterdir()] == ['a.1.checkpoint']


KERNEL = STATE.leaves['state/kernel']
OTHERS = {
    'lacks state/bias': {**STATE.leaves, 'state/bias': np.zeros(3)},
    'holds state/step:': {'state/kernel': KERNEL},
    r'state/kernel as float32\[2, 3\], not float64\[2, 3\]': {**STATE.leaves, 'state/kernel': KERNEL.astype(np.float64)},
    r'state/kernel as float32\[2, 3\], not bfloat16\[2, 3\]': {**STATE.leaves, 'state/kernel': KERNEL.astype(ml_dtypes.bfloat16)},
    r'state/kernel as float32\[2, 3\], not float32\[3, 2\]': {**STATE.leaves, 'state/kernel': KERNEL.T},
    r'state/step as int32\[\], not int32\[1\]': {**STATE.leaves, 'state/step': np.zeros(1, np.int32)},
    r'state/step as int32\[\], not uint32\[\]': {**STATE.leaves, 'state/step': np.zeros((), np.uint32)},
}


@pytest.mark.parametrize('says', OTHERS)
def test_arrays_of_another_network_are_refused_with_their_path(says):
    checkpoint.check(Path('file'), STATE.leaves, STATE.leaves)
    with pytest.raises(errors.InputError, match=f'^file .*{says}'):
        checkpoint.check(Path('file'), STATE.leaves, OTHERS[says])


def test_the_first_released_format_is_read():
    """The file was written once and must stay readable."""
    saved = checkpoint.decode((Path(__file__).parent / 'golden' / 'state-1.checkpoint').read_bytes())
    assert bits(saved) == bits(STATE)
