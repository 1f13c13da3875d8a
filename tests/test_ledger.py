"""The folder of a sweep: other processes, kills, torn lines, damaged files, a full disk, and reading a cell back."""

import os
import resource  # noqa: F401, used by the code of other processes
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from cnn_research import claims, data, errors, ledger, lines, sweep
from cnn_research.config import Config, DataConfig, ModelConfig, TrainConfig

ROOT = Path(ledger.__file__).parents[1]
STUDY = {'experiment': 'e', 'base': {'model': {'head': 'gmp', 'hidden': (3,)}, 'train': {'epochs': 2}}}
PARAMS = {
    'params/stage_0/kernel': np.array([[np.nan, -0.0, np.inf], [1e-45, 3.4e38, 0.1]], np.float32),
    'batch_stats/norm_0/mean': np.arange(3, dtype=np.int32),
    'scale': np.float32(0.5),
}


@pytest.fixture
def book(tmp_path):
    """A ledger of a new study."""
    book = ledger.Ledger(tmp_path / 'study')
    book.create(STUDY)
    yield book
    book.claims.close()


def record(book, cell, epochs=2, params=PARAMS, **row):
    """Claim and record a cell with so many epochs."""
    history = [{'cell': cell, 'epoch': epoch, 'train_loss': 1 / 3} for epoch in range(1, epochs + 1)]
    with book.claim(cell) as mine:
        assert mine and book.record({'cell': cell, 'status': 'ok', 'test_accuracy': 0.1, **row}, history, params)


def start(book, code):
    """A process that runs some code, where BOOK stands for another ledger of the same folder."""
    start = f'import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]; from test_ledger import *\n'
    code = start + textwrap.dedent(code).replace('BOOK', f'ledger.Ledger({str(book.folder)!r})')
    call = [sys.executable, '-c', code]
    return subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def content(book):
    """Every file of the folder but the beats, which come and go."""
    return {
        path.relative_to(book.folder): path.read_bytes() for path in book.folder.rglob('*') if path.is_file() and path.suffix != '.beat'
    }


def test_a_claim_keeps_other_processes_out_until_it_ends_or_its_holder_is_killed(book):
    holder = start(book, """
        book = BOOK
        with book.claim('a') as first, book.claim('b') as second:
            print(first, second, flush=True)
            sys.stdin.readline()
        print('released', flush=True)
        with book.claim('b'):
            print('again', flush=True)
            sys.stdin.readline()
    """)  # fmt: skip
    with holder:
        assert holder.stdout.readline() == 'True True\n'
        for cell, free in (('a', False), ('b', False), ('c', True)):
            with book.claim(cell) as mine:
                assert mine is free
        holder.stdin.write('\n')
        holder.stdin.flush()
        assert [holder.stdout.readline() for _ in range(2)] == ['released\n', 'again\n']
        with book.claim('a') as mine:
            assert mine
        with book.claim('b') as mine:
            assert not mine
        holder.send_signal(signal.SIGKILL)
        assert holder.wait() == -signal.SIGKILL
    with book.claim('b') as mine:
        assert mine


def test_processes_that_record_at_once_lose_nothing(book):
    code = """
        print('ready', flush=True)
        name = sys.stdin.readline().strip()
        for i in range(20):
            record(BOOK, f'{name}{i}', params={})
    """
    team = [start(book, code) for _ in range(3)]
    assert [process.stdout.readline() for process in team] == ['ready\n'] * 3
    for name, process in zip('abc', team):
        process.stdin.write(f'{name}\n')
        process.stdin.flush()
    for process in team:
        process.communicate()
        assert process.returncode == 0
    cells = [f'{name}{i}' for name in 'abc' for i in range(20)]
    assert sorted(book.results()) == sorted(cells)
    assert sorted((h['cell'], h['epoch']) for h in book.history()) == sorted((c, e) for c in cells for e in (1, 2))


@pytest.mark.parametrize('torn', [b'{"cell": "b", "test_acc', b'{"cell": "b"}', b'\xff\x00'])
@pytest.mark.parametrize('name', ['results.jsonl', 'history.jsonl'])
def test_a_torn_last_line_is_left_out_and_the_next_one_stands_alone(book, name, torn, caplog):
    record(book, 'a')
    whole = (book.folder / name).read_bytes()
    (book.folder / name).write_bytes(whole + torn)
    assert list(book.results()) == ['a'] and len(book.history()) == 2 and not caplog.records
    record(book, 'c')
    for read in (book, ledger.Ledger(book.folder)):
        assert list(read.results()) == ['a', 'c'] and len(read.history()) == 4
    assert f'{name} has a damaged line' in caplog.text
    assert (book.folder / name).read_bytes().startswith(whole)


def test_a_damaged_line_costs_its_cell_alone_and_is_told(book, caplog):
    for cell in 'abc':
        record(book, cell)
    path = book.folder / 'results.jsonl'
    whole = path.read_bytes()
    for at in range(0, whole.index(b'\n'), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        caplog.clear()
        assert list(ledger.Ledger(book.folder).results()) == ['b', 'c'], at
        assert 'results.jsonl has a damaged line' in caplog.text


def test_a_cell_that_lacks_a_part_of_its_history_is_to_run_again(book):
    record(book, 'a', epochs=3)
    record(book, 'b', epochs=3)
    path = book.folder / 'history.jsonl'
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b''.join(lines[:1] + lines[2:]))
    again = ledger.Ledger(book.folder)
    assert list(again.results()) == ['b'] and {h['cell'] for h in again.history()} == {'b'}
    record(book, 'a', epochs=3)
    assert sorted(again.results()) == ['a', 'b'] and len(again.history()) == 6


def test_a_cell_recorded_again_replaces_its_row_and_its_history(book):
    record(book, 'a', epochs=2, test_accuracy=0.1)
    record(book, 'b')
    record(book, 'a', epochs=3, test_accuracy=0.2)
    assert book.results()['a']['test_accuracy'] == 0.2
    assert sorted((h['cell'], h['epoch']) for h in book.history()) == [('a', 1), ('a', 2), ('a', 3), ('b', 1), ('b', 2)]


def test_what_a_process_made_of_a_cell_that_another_one_took_over_is_not_kept(book, monkeypatch):
    other = ledger.Ledger(book.folder)
    monkeypatch.setattr(claims, 'STILL', 0.0)
    with book.claim('a') as mine:
        assert mine
        book.claims._ended.set()  # its counter stands still: the machine sleeps
        book.claims._thread.join()
        deadline = time.monotonic() + 20
        while not other.claims.claim('a'):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert not book.record({'cell': 'a', 'status': 'ok'}, [], {})
        assert other.record({'cell': 'a', 'status': 'ok'}, [], {})
        assert len((book.folder / 'results.jsonl').read_bytes().splitlines()) == 1
    assert other.claims.holds('a')
    other.claims.close()


def test_a_row_has_the_history_of_its_own_attempt(book):
    """A process was killed between the history and the row, and another one had other numbers."""
    row, history = {'cell': 'a', 'status': 'ok'}, [{'cell': 'a', 'epoch': epoch, 'by': 'one'} for epoch in (1, 2)]
    with book.claim('a'):
        assert book.record(row, history, {})
    (book.folder / 'results.jsonl').unlink()
    again = ledger.Ledger(book.folder)
    with again.claim('a'):
        assert again.results() == {} and again.record(row, [{'cell': 'a', 'epoch': 1, 'by': 'other'}], {})
    assert [(h['epoch'], h['by']) for h in again.history()] == [(1, 'other')]
    again.claims.close()


def test_who_loses_a_cell_while_it_writes_parameters_leaves_those_of_the_other_one(book, monkeypatch):
    other, save = ledger.Ledger(book.folder), ledger.Ledger._save

    def slowly(self, cell, arrays):
        sha256 = save(self, cell, arrays)
        if self is book:
            book.claims.release('a')
            with other.claim('a'):
                assert other.record({'cell': 'a', 'status': 'ok'}, [], {'w': np.ones(2)})
        return sha256

    monkeypatch.setattr(ledger.Ledger, '_save', slowly)
    with book.claim('a'):
        assert not book.record({'cell': 'a', 'status': 'ok'}, [], {'w': np.zeros(2)})
    assert book.parameters('a')['w'].tolist() == [1, 1] and len(lines_of(book)) == 1
    other.claims.close()


def lines_of(book):
    return (book.folder / 'results.jsonl').read_bytes().splitlines()


def test_a_failed_append_takes_back_nothing_of_another_process(tmp_path, monkeypatch):
    mine, other = (lines.Lines(tmp_path / 'x', ('a',)) for _ in range(2))
    sync = os.fsync

    def fails(number):
        monkeypatch.setattr(os, 'fsync', sync)
        other.append([{'a': 2}])
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(os, 'fsync', fails)
    with pytest.raises(OSError, match='Input/output'):
        mine.append([{'a': 1}])
    assert {'a': 2} in [{'a': row['a']} for row in lines.Lines(tmp_path / 'x', ('a',)).rows()]


def test_a_cell_at_which_workers_die_is_given_up(book):
    for how, doomed in (('SIGSEGV', None), ('SIGSEGV', '2 worker processes died at it (SIGSEGV, SIGSEGV)')):
        book.died(['a'], how)
        assert book.doomed('a') == doomed
    book.died(['b'], ledger.OUT_OF_MEMORY)
    assert book.doomed('b') == ledger.OUT_OF_MEMORY and book.doomed('c') is None
    record(book, 'b', status='failed')
    assert book.doomed('b') is None  # --retry is another attempt


def test_a_result_file_that_cannot_be_read_is_refused(book):
    (book.folder / 'results.jsonl').mkdir()
    with pytest.raises(errors.InputError, match='results.jsonl cannot be read'):
        book.results()


def test_of_two_studies_that_make_a_folder_at_once_one_is_refused(book):
    code = """
        sys.stdin.readline()
        for number in range(20):
            folder = BOOK.folder / str(number)
            try:
                ledger.Ledger(folder).create({'experiment': NAME})
                print(number, NAME)
            except errors.InputError:
                pass
    """
    both = [start(book, code.replace('NAME', repr(name))) for name in 'ab']
    for process in both:
        process.stdin.write('\n')
        process.stdin.flush()
    winners = [line.split() for process in both for line in process.communicate()[0].splitlines()]
    assert sorted(int(number) for number, _ in winners) == list(range(20))
    assert all(ledger.Ledger(book.folder / number).study() == {'experiment': name} for number, name in winners)


def test_parameters_come_back_bit_by_bit(book):
    record(book, 'a')
    back = ledger.Ledger(book.folder).parameters('a')
    assert {name: (a.dtype, a.shape, a.tobytes()) for name, a in back.items()} == {
        name: (a.dtype, a.shape, a.tobytes()) for name, a in PARAMS.items()
    }


def test_a_damaged_or_missing_parameter_file_is_refused(book):
    record(book, 'a')
    (path,) = (book.folder / 'params').glob('a.*.npz')
    whole = path.read_bytes()
    for at in (0, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(errors.InputError, match=r'a\.\w+\.npz is missing or damaged'):
            book.parameters('a')
    path.unlink()
    with pytest.raises(errors.InputError, match=r'a\.\w+\.npz is missing or damaged'):
        book.parameters('a')


def test_a_cell_without_parameters_is_not_among_the_known(book):
    record(book, 'a')
    record(book, 'b', params={})
    with pytest.raises(errors.InputError, match="unknown finished cell 'c'; known: a$"):
        book.parameters('c')
    with pytest.raises(errors.InputError, match='b ended as ok, without parameters'):
        book.parameters('b')


def test_a_folder_belongs_to_one_study(book):
    ledger.Ledger(book.folder).create(STUDY)
    before = content(book)
    other = {**STUDY, 'base': {'model': {'head': 'gap', 'hidden': (3,)}, 'train': {'epochs': 2, 'warmup': 0.1}}}
    with pytest.raises(errors.InputError, match='another study') as refused:
        book.create(other)
    assert 'base.model.head was gmp, now gap; base.train.warmup was None, now 0.1)' in str(refused.value)
    assert content(book) == before


@pytest.mark.parametrize('name', ['../a', 'a/b', '', '.append', '-a', 'a b', 'a\x00', 'a\n', 'x' * 300, 'ä'])
def test_a_name_that_would_leave_its_folder_is_refused(book, name):
    before = content(book)
    with pytest.raises(errors.InputError, match='names files'):
        book.ask([{'cell': 'good-seed0', 'arm': 'good', 'effort': 1}, {'cell': name, 'arm': 'x', 'effort': 1}])
    assert content(book) == before


def test_results_without_a_study_and_no_study_at_all_are_refused(tmp_path):
    with pytest.raises(errors.InputError, match=r'study\.json cannot be read'):
        ledger.Ledger(tmp_path / 'nothing').study()
    (tmp_path / 'study.json').write_text('{"experiment": "e"}')
    with pytest.raises(errors.InputError, match=r'study\.json is damaged, or of another version'):
        ledger.Ledger(tmp_path).create(STUDY)
    (tmp_path / 'study.json').unlink()
    (tmp_path / 'results.jsonl').write_text('')
    with pytest.raises(errors.InputError, match=r'holds results but no study\.json'):
        ledger.Ledger(tmp_path).create(STUDY)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / 'file').write_text('mine')
    for folder in (tmp_path / 'file', tmp_path / 'file' / 'study'):
        with pytest.raises(errors.InputError, match='cannot write to .*: give another --workdir'):
            ledger.Ledger(folder).create(STUDY)
    assert (tmp_path / 'file').read_text() == 'mine'


@pytest.mark.parametrize('full', ['params', 'history.jsonl', 'results.jsonl'])
def test_a_full_disk_takes_back_what_was_half_written(book, full):
    record(book, 'a', note='x' * (3000 if full == 'results.jsonl' else 0), epochs=60 if full == 'history.jsonl' else 1)
    before = content(book)
    limit = 300 if full == 'params' else len(before[Path(full)]) + 20  # bytes that any file may grow to
    limited = start(book, f"""
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            record(BOOK, 'b', epochs=1, params=PARAMS if {full == 'params'} else {{}})
        except errors.InputError as e:
            print(e)
    """)  # fmt: skip
    said, _ = limited.communicate()
    assert said.startswith('the disk is full') and f'free some space for {book.folder}' in said
    after = content(book)
    assert after[Path('results.jsonl')] == before[Path('results.jsonl')] and set(after) == set(before)
    if full != 'results.jsonl':  # history comes before the row, and is completed when the cell is run again
        assert after == before
    record(book, 'b', epochs=1)
    assert list(book.results()) == ['a', 'b'] and [h['epoch'] for h in book.history() if h['cell'] == 'b'] == [1]


def test_a_finished_cell_is_read_back_as_the_network_that_its_row_scores(book):
    from cnn_research import trained, trainings  # they import jax, which the other processes here do without

    digits = data.load('digits')
    model = ModelConfig((3,), (3,), (2,), (1,), ('local',), norm='batch')
    cell = sweep.Cell('arm', 7, Config(model, DataConfig(train_size=64), TrainConfig(1, 16, learning_rate=0.01)), 1)
    with book.claim(cell.name):
        book.record(*trainings.run_cell('e', cell, digits))
    read, row = trained.load_cell(book.folder, 'arm-seed7'), book.results()['arm-seed7']
    assert read.row == row and row['status'] == 'ok' and read.model.config == model
    assert (read.predict(digits.test_images) == digits.test_labels).mean() == row['test_accuracy']


@pytest.mark.parametrize('sharing', ['shared', 'tiled:2x3', 'low_rank:2', 'local', 'masked_dense', 'dense'])
def test_filters_are_the_weights_behind_the_maps(sharing):
    import jax

    from cnn_research import models, trained

    net = models.Network(ModelConfig((4,), (3,), (2,), (1,), (sharing,), padding='VALID'), 10)
    image, scale = np.random.default_rng(0).integers(0, 256, (7, 9, 2), np.uint8), np.array([0.5, 2], np.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), image[None] * scale)
    variables = jax.tree.map(lambda leaf: np.random.default_rng(1).normal(size=leaf.shape).astype(np.float32), shapes)
    read = trained.Trained({}, net, variables, scale)
    seen = image if sharing == 'dense' else image[2:5, 4:7]  # by the position in the middle of 3 x 4
    filters, maps = read.first_layer(image)
    np.testing.assert_allclose(maps[1, 2], np.einsum('fabc,abc->f', filters, seen * scale), rtol=1e-4, atol=1e-2)
