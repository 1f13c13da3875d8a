"""Compiled programs on disk: found again by the next process, the same bits, and only ever in a folder of this user alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = """
import hashlib, logging, sys
import jax, jax.numpy as jnp, numpy as np
from cnn_research import compiled, ops
folder = compiled.keep()
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
x = np.random.default_rng(0).normal(size=(9, 14, 14, 8)).astype(np.float32)
step = jax.jit(jax.grad(lambda k: jnp.sum(jnp.sin(ops.shared(x, k)))))
y = step(np.ones((3, 3, 8, 4), np.float32))
print(folder, sum('cache_hits' in event for event in hits), hashlib.sha256(np.asarray(y).tobytes()).hexdigest())
"""


def run(home, **environment):
    """(folder, cache hits, hash of the result) of a new process."""
    found = subprocess.run(
        [sys.executable, '-c', CODE], cwd=ROOT, env={**os.environ, 'XDG_CACHE_HOME': str(home), 'NPROC': '1', **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    folder, hits, digest = found.stdout.split()
    return folder, int(hits), digest


def test_the_next_process_finds_the_program_and_computes_the_same_bits(tmp_path):
    folder, hits, digest = run(tmp_path)
    assert hits == 0 and Path(folder).parent.parent == tmp_path
    assert os.stat(folder).st_mode & 0o777 == 0o700
    again, hits, same = run(tmp_path)
    assert again == folder and hits >= 1 and same == digest


def test_programs_for_other_numbers_of_threads_are_kept_apart(tmp_path):
    assert run(tmp_path)[0] != run(tmp_path, NPROC='2')[0]


def test_without_a_place_that_can_be_written_programs_are_compiled_anew():
    assert run('/proc/none')[:2] == ('None', 0)


@pytest.mark.parametrize('spoil', ['open to others', 'a link', 'a file'])
def test_a_folder_that_others_could_write_is_not_used(tmp_path, spoil):
    folder = Path(run(tmp_path)[0])
    if spoil == 'open to others':
        folder.chmod(0o770)
    else:
        folder.rename(tmp_path / 'elsewhere')
        folder.symlink_to(tmp_path / 'elsewhere') if spoil == 'a link' else folder.write_text('')
    assert run(tmp_path)[:2] == ('None', 0)
