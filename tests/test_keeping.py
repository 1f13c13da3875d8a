"""Trainings that go on from where they were saved end with the bits of one that was never disturbed; signals; what is refused."""

import dataclasses
import math
import os
import shutil
import signal
import statistics
import threading
import time

import jax
import numpy as np
import pytest
from test_train import BASE, PLACED, SMALL, noise, posed, same_bits

from cnn_research import checkpoint, errors, feeds, keeping, pace, schemes, train
from cnn_research.config import Config, DataConfig, ModelConfig, TrainConfig

TWENTY = TrainConfig(epochs=4, batch_size=16)  # of 80 images: 20 steps
SCHEMES = ('shared', 'coordinates', 'tiled:2x2', 'low_rank:2', 'low_rank:2:row_column', 'low_rank:2:free', 'averaged:3')
SCHEMES += ('local', 'masked_dense', 'dense')
NORMS = ('none', 'batch')
KINDS = {f'{scheme}, {norm}': ({'sharing': (scheme,), 'norm': norm}, {}, {}) for scheme in SCHEMES for norm in NORMS} | {
    'sgd, shift and flip': ({}, {'unseen_positions': None}, {'optimizer': 'sgd', 'shift': 1, 'flip': True, 'learning_rate': 0.1}),
    'adadelta with decay': ({}, {}, {'optimizer': 'adadelta', 'weight_decay': 0.1}),
    'bfloat16, flatten, hidden': ({'compute': 'bfloat16', 'head': 'flatten', 'hidden': (3,)}, {}, {}),
    'no canvas, passes': ({}, {'canvas': None, 'train_positions': None, 'unseen_positions': None}, {'epochs': 2, 'passes': 2}),
    'patience': ({}, {}, {'patience': 1}),
    'relaxed': ({}, {}, {'relax_epoch': 2, 'relax_to': 'local'}),
}
SOME = ('shared, batch', 'dense, none', 'relaxed', 'patience')  # every day; the others: -m endurance


def of_kind(kind):
    model, data, training = KINDS[kind]
    return Config(ModelConfig(**SMALL | model), dataclasses.replace(PLACED, train_size=80, **data), dataclasses.replace(TWENTY, **training))


def keeper(folder, c, every=1e9, cells=('a',), asked=None):
    """A keeper, and what it told."""
    told = []
    return keeping.FileKeeper(folder, cells, c.to_json(), every, asked or keeping.Asked(), told.append), told


class Copies(keeping.FileKeeper):
    """Saves after every chunk of steps, and copies every file to a folder of its own."""

    def passed(self, progress):
        self.save(progress)
        self.finish()
        number = progress.epoch * progress.problem.steps_per_epoch + progress.done
        folder = self._folder.parent / f'at {number}'
        folder.mkdir()
        shutil.copy(self._folder / f'a.{number}.checkpoint', folder)


def without_times(fit):
    return [{**entry, 'seconds': 0} for entry in fit.history]


def differing_bits(a, b):
    """How many bits of two states differ."""
    leaves = zip(*(checkpoint_leaves(state) for state in (a, b)), strict=True)
    return sum(int(np.unpackbits(np.frombuffer(x, np.uint8) ^ np.frombuffer(y, np.uint8)).sum()) for x, y in leaves)


def checkpoint_leaves(state):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def step_by_step(monkeypatch):
    """Let every step be a chunk of its own."""
    monkeypatch.setattr(pace, '_CHUNK_SECONDS', 0)
    monkeypatch.setattr(pace, '_FIRST_STEPS', 1)


def resumed_at_every_step(kind, folder, monkeypatch):
    """How many boundaries between steps a training was resumed at, and how many bits of final state and history then differed."""
    step_by_step(monkeypatch)
    c = of_kind(kind)
    p, arrays, _ = posed(c, noise())
    whole = train.fit(p, arrays, 3)
    with Copies(folder / 'states', ['a'], c.to_json(), 0.0, keeping.Asked(), print) as copying:
        copied = train.fit(p, arrays, 3, keeper=copying)
    wrong = differing_bits(whole.state, copied.state)
    folders = sorted(folder.glob('at *'))
    for at in folders:
        going_on, told = keeper(at, c)
        with going_on:
            fit = train.fit(p, arrays, 3, keeper=going_on)
        assert told == [] and fit.problem == whole.problem
        wrong += differing_bits(whole.state, fit.state) + (without_times(fit) != without_times(whole))
    return len(folders), wrong


@pytest.mark.parametrize('kind', SOME)
def test_a_resumed_training_ends_with_the_same_bits(kind, tmp_path, monkeypatch):
    boundaries, wrong = resumed_at_every_step(kind, tmp_path, monkeypatch)
    assert wrong == 0 and (boundaries == 20 or (kind == 'patience' and boundaries > 4))


@pytest.mark.endurance
def test_resumed_at_every_step_boundary_of_every_scheme_and_norm(tmp_path, monkeypatch, record_property):
    assert {scheme.partition(':')[0] for scheme in SCHEMES} == {known.partition(':')[0] for known in schemes.KNOWN}
    found = {}
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        found[kind] = resumed_at_every_step(kind, tmp_path / kind, monkeypatch)
    boundaries, bits = (sum(each) for each in zip(*found.values()))
    record_property('figure', f'{len(KINDS)} trainings of 20 steps resumed at {boundaries} boundaries: {bits} bits differ')
    assert all(wrong == 0 for _, wrong in found.values()), found


def test_seeds_that_train_together_go_on_together(tmp_path):
    c = dataclasses.replace(of_kind('shared, batch'), train=dataclasses.replace(TWENTY, epochs=3))
    p, arrays, _ = posed(c, noise())
    whole = train.fit_together(p, [arrays] * 2, [3, 5])

    class Ends(keeping.FileKeeper):
        def passed(self, progress):
            if progress.epoch == 1:
                self.save(progress)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Ends(tmp_path, ['a', 'b'], c.to_json(), 0.0, keeping.Asked(), print) as ends:
        train.fit_together(p, [arrays] * 2, [3, 5], keeper=ends)
    going_on, told = keeper(tmp_path, c, cells=['a', 'b'])
    with going_on:
        fits = train.fit_together(p, [arrays] * 2, [3, 5], keeper=going_on)
    assert told == []
    for one, other in zip(fits, whole, strict=True):
        assert same_bits(one.state, other.state) and without_times(one) == without_times(other)


def saved(folder, c=BASE, cells=('a',)):
    """The progress of a training of this configuration, saved in its first epoch."""
    p, _, _ = posed(c)
    keeps, _ = keeper(folder, c, cells=cells)
    with keeps:
        keeps.save(train.begin(p, [0]))
    return p


def test_progress_of_another_definition_is_not_gone_on_from(tmp_path):
    p = saved(tmp_path)
    other = dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, learning_rate=0.5))
    for keeps, told in (keeper(tmp_path, other), keeper(tmp_path, BASE, cells=['a', 'b'])):
        assert keeps.resumed(p, [0]) is None
        assert len(told) == 1 and 'is of another definition of a' in told[0]
        assert checkpoint.numbers(tmp_path, 'a') == []  # so that what it saves from now on is the newest
        saved(tmp_path)
    assert keeper(tmp_path, BASE)[0].resumed(p, [0]) is not None


def test_arrays_of_another_network_are_refused(tmp_path):
    saved(tmp_path)
    wider = dataclasses.replace(BASE, model=ModelConfig(**SMALL | {'features': (3,)}, norm='batch'))
    with pytest.raises(
        errors.InputError, match=r'a\.0\.checkpoint holds state/params/classes/kernel as float32\[2, 3\], not float32\[3, 3\]'
    ):
        keeper(tmp_path, BASE)[0].resumed(posed(wider)[0], [0])


def test_a_damaged_state_falls_back_to_the_one_before(tmp_path):
    p = saved(tmp_path)
    keeps, _ = keeper(tmp_path, BASE)
    later = train.begin(p, [0])
    later.done = 3
    with keeps:
        keeps.save(later)
    path = tmp_path / 'a.3.checkpoint'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    again, told = keeper(tmp_path, BASE)
    assert again.resumed(p, [0]).done == 0
    assert len(told) == 1 and 'a.3.checkpoint is damaged' in told[0]


def test_going_on_elsewhere_is_told(tmp_path, monkeypatch):
    p, made = saved(tmp_path), keeping.made_by()
    monkeypatch.setattr(keeping, 'made_by', lambda: made | {'jaxlib': '0.0.1', 'processor': 'another'})
    keeps, told = keeper(tmp_path, BASE)
    assert keeps.resumed(p, [0]) is not None
    assert 'jaxlib was' in told[0] and 'now 0.0.1' in told[0] and 'processor was' in told[0]


def test_no_more_than_an_interval_is_lost_and_saving_takes_a_hundredth_of_the_time_at_most(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    keeps, _ = keeper(tmp_path, BASE, every=10)
    progress, times = train.begin(posed()[0], [0]), []
    monkeypatch.setattr(keeps, 'save', lambda progress: times.append(now[0]) or setattr(keeps, '_saved', now[0]))

    def pass_until(end):
        while now[0] < end:
            now[0] += 1.0
            keeps.passed(progress)

    pass_until(30)
    assert times == [9, 18, 27]  # at the next chance, ten seconds would have passed
    keeps._wrote = 3.0
    pass_until(50)
    assert times[3:] == [33, 39, 45]  # so that even before the next file is written, no more than ten are lost
    keeps._took = 0.3
    pass_until(80)
    assert times[6:] == [75]


def test_a_slow_disk_holds_nothing_up(tmp_path, monkeypatch):
    write, may, numbers = checkpoint.save, threading.Event(), []
    monkeypatch.setattr(checkpoint, 'save', lambda *args: numbers.append(args[2]) or (may.wait(20) and write(*args)))
    monkeypatch.setattr(keeping, '_SHARE', math.inf)
    progress, (keeps, _) = train.begin(posed()[0], [0]), keeper(tmp_path, BASE, every=0)
    with keeps:
        for progress.done in (1, 2, 3):  # as the first is being written
            keeps.passed(progress)
        may.set()
        keeps._written.result()
        progress.done = 4
        keeps.passed(progress)
    assert numbers == [1, 4] and checkpoint.numbers(tmp_path, 'a') == [1, 4]


def test_signals_save_and_end_a_training_at_its_next_chunk(tmp_path, monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    asked = keeping.Asked()
    asked.listen()
    try:
        step_by_step(monkeypatch)
        p, arrays, _ = posed()
        send = {3: signal.SIGUSR1, 7: signal.SIGTERM}
        steps = []

        class Signals(keeping.FileKeeper):
            def passed(self, progress):
                steps.append(progress.epoch * 6 + progress.done)
                if steps[-1] in send:
                    os.kill(os.getpid(), send[steps[-1]])
                super().passed(progress)

        with pytest.raises(SystemExit) as ended, Signals(tmp_path, ['a'], BASE.to_json(), 1e9, asked, print) as keeps:
            train.fit(p, arrays, 0, keeper=keeps)
        assert ended.value.code == 143 and steps[-1] == 7
        assert checkpoint.numbers(tmp_path, 'a') == [3, 7]
        with pytest.raises(SystemExit):  # no training runs: it ends at once
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_what_happens_while_a_state_is_written_is_not_in_it(tmp_path, monkeypatch):
    p, _, _ = posed()
    progress, (keeps, _) = train.begin(p, [0]), keeper(tmp_path, BASE)
    write, may = checkpoint.save, threading.Event()
    monkeypatch.setattr(checkpoint, 'save', lambda *args: may.wait(20) and write(*args))
    before = jax.tree.map(np.array, progress.state)
    with keeps:
        keeps.save(progress)
        train._steps(progress, feeds.feed([posed()[1]], None), [0], lambda run: None, None)
        progress.histories[0].append({'epoch': 1})
        may.set()
    found = keeper(tmp_path, BASE)[0].resumed(p, [0])
    assert found.histories == [[]] and found.done == 0 and same_bits(found.state, before)


def test_a_full_disk_is_told_at_the_next_saving(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, 'No space left on device')

    progress, (keeps, _) = train.begin(posed()[0], [0]), keeper(tmp_path, BASE)
    monkeypatch.setattr(checkpoint, 'save', full)
    with keeps:
        keeps.save(progress)
        with pytest.raises(errors.InputError, match='the disk is full'):
            keeps.save(progress)


@pytest.mark.endurance
def test_what_saving_a_megabyte_holds_up(tmp_path, record_property):
    """Training waits for a copy, not for the disk."""
    model = ModelConfig(**SMALL | {'features': (64,), 'sharing': ('local',), 'kernel_sizes': (5,)})
    c = dataclasses.replace(BASE, model=model, data=DataConfig('noise', canvas=(7, 7), train_positions='any'))
    progress, (keeps, _) = train.begin(posed(c)[0], [0]), keeper(tmp_path, c)
    seconds = []
    with keeps:
        for number in range(200):
            progress.done = number
            started = time.perf_counter()
            keeps.save(progress)
            seconds.append(time.perf_counter() - started)
            keeps.finish()
    size = (tmp_path / 'a.199.checkpoint').stat().st_size
    text = f'{1e3 * statistics.median(seconds):.2f} ms (median of 200)'
    record_property('figure', f'saving {size / 1e6:.2f} MB holds a training up for {text}')
    assert 0.9e6 < size < 1.1e6 and statistics.median(seconds) < 5e-3
