"""Kills by the hundred, of trainings and of sweeps, on one host and on two whose clocks differ. All: python -m pytest -m endurance"""

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from test_sweep import TIMES, bits, children, finish, lines, running, start

from cnn_research import ledger

ROOT = Path(__file__).parents[1]
EVERY = 1.0  # seconds of training that may be lost
# A training of about 20 seconds, told step by step.
LIFE = f"""
import sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]
import dataclasses
from pathlib import Path
from test_train import BASE, noise, posed
from test_keeping import checkpoint_leaves
from cnn_research import compiled, keeping, pace, train
compiled.keep()
c = dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, epochs=EPOCHS))
p, arrays, _ = posed(c)
pace._CHUNK_SECONDS = 0.02

class Told(keeping.FileKeeper):
    def passed(self, progress):
        print(progress.epoch * 6 + progress.done, time.monotonic(), flush=True)
        time.sleep(0.01)
        super().passed(progress)

with Told(Path(sys.argv[1]), ['a'], c.to_json(), {EVERY}, keeping.Asked(), lambda text: print('told', text, flush=True)) as keeper:
    run = keeper.resumed(p, [0])
    print('begins', run.epoch * 6 + run.done if run else 0, flush=True)
    fit = train.fit(p, arrays, 0, keeper=keeper)
print('ends', b''.join(checkpoint_leaves(fit.state)).hex(), [{{**h, 'seconds': 0}} for h in fit.history], flush=True)
"""


class Life:
    """A process that trains, until it ends or is killed after so many seconds from its first step, or from its start."""

    def __init__(self, folder, epochs, seconds=None, from_start=False):
        code = LIFE.replace('EPOCHS', str(epochs))
        process = subprocess.Popen([sys.executable, '-c', code, str(folder)], stdout=subprocess.PIPE)
        began, self.steps, self.begins, self.ends, self.told = time.monotonic(), [], None, None, []
        at = began + seconds if seconds is not None and from_start else None
        os.set_blocking(process.stdout.fileno(), False)
        buffer = b''
        while True:
            if at is not None and time.monotonic() >= at:
                process.kill()
            done = process.poll() is not None
            with contextlib.suppress(BlockingIOError):  # nothing to read yet
                while new := os.read(process.stdout.fileno(), 65536):
                    buffer += new
            *whole, buffer = buffer.split(b'\n')
            for line in whole:
                kind, _, rest = line.decode().partition(' ')
                if kind in ('begins', 'ends', 'told'):
                    setattr(self, kind, [*self.told, rest] if kind == 'told' else rest)
                elif rest:
                    self.steps.append((int(kind), float(rest)))
                    at = time.monotonic() + seconds if at is None and seconds is not None else at
            if done:
                break
            time.sleep(0.005)
        process.stdout.close()
        self.killed = process.returncode == -signal.SIGKILL
        assert self.killed or process.returncode == 0


def killed_again_and_again(number, folder, epochs, rng):
    """A training that is killed `number` times; (the most seconds of it that were lost at once, trainings that ended with other bits)."""
    expected, worst, wrong, kills, round_ = Life(folder / 'whole', epochs).ends, 0.0, 0, 0, 0
    before: list[tuple[int, float]] = []
    while kills < number:
        here = folder / str(round_)
        life = Life(here, epochs, rng.uniform(0, 4), from_start=rng.random() < 0.2)
        assert not life.told, life.told
        if life.begins is not None:
            begins = int(life.begins)
            after = [moment for step, moment in before if step > begins]
            worst = max(worst, before[-1][1] - min(after)) if after else worst
            names = {path.name for path in here.iterdir()} if here.exists() else set()
            assert all(name.endswith(('.checkpoint', '.tmp')) for name in names), names
        if life.killed:
            kills += 1
            before = [*[old for old in before if life.begins is None or old[0] <= int(life.begins)], *life.steps]
        else:
            wrong += life.ends != expected
            assert len(list(here.glob('*.checkpoint'))) <= 2
            before, round_ = [], round_ + 1
    wrong += Life(folder / str(round_), epochs).ends != expected
    return worst, wrong, round_ + 1


@pytest.mark.slow
def test_a_training_that_is_killed_ends_with_the_same_bits(tmp_path):
    worst, wrong, _ = killed_again_and_again(2, tmp_path, 60, random.Random(1))
    assert wrong == 0 and worst < 5 * EVERY  # on a loaded machine


@pytest.mark.endurance
def test_200_kills_of_a_training(tmp_path, record_property):
    worst, wrong, rounds = killed_again_and_again(200, tmp_path, 150, random.Random(0))
    text = f'{rounds} ended, {wrong} of them with other bits; {worst:.2f} s lost at most (--save_every={EVERY})'
    record_property('figure', f'trainings killed 200 times: {text}')
    assert wrong == 0 and worst < EVERY + 0.5  # a machine that is busy otherwise may pause any process


# Five arms of tiny networks with a hundred seeds each.
TINY = ('--arms=conv_flatten,conv_gmp,local_flatten,local_gmp,dense_gmp', '--epochs=1', '--train_size=32', '--features=1,1')


def sweep_under_fire(folder, seeds, kills, rng, hosts=(((), {}), ((), {}))):
    """Two commands of two workers each share a folder, on hosts (what the command begins with, its environment). Some process of theirs is
    killed, worker or command, `kills` times; a command that ended is given again until all is done."""
    commands = {}
    for i, (before, environment) in enumerate(hosts):
        commands[i] = start(folder, *TINY, f'--seeds={seeds}', '--workers=2', before=before, env={**os.environ, **environment})
    done = 0
    while done < kills:
        time.sleep(rng.uniform(0.2, 3))
        for i, (before, environment) in enumerate(hosts):
            if commands[i].poll() is not None:
                commands[i].communicate()
                commands[i] = start(folder, *TINY, f'--seeds={seeds}', '--workers=2', before=before, env={**os.environ, **environment})
        living = [pid for command in commands.values() for pid in (command.pid, *descendants(command.pid)) if running(pid)]
        if living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(living), signal.SIGKILL)
                done += 1
    for command in commands.values():
        command.communicate()
    finish(start(folder, *TINY, f'--seeds={seeds}', '--workers=2'))


def descendants(pid):
    return [one for child in children(pid) for one in (child, *descendants(child))]


def litter(folder):
    """What no finished run leaves behind."""
    left = [path for path in folder.rglob('*') if path.is_file() and (path.suffix in ('.tmp', '.claim', '.beat', '.checkpoint'))]
    return [str(path.relative_to(folder)) for path in left]


def look_around(folder):
    """Be there until dead processes of other hosts have stood still for long enough to be told from living ones."""
    claims, end = ledger.Ledger(folder).claims, time.monotonic() + 60
    assert claims.claim('looks')
    while not claims.tidy():
        assert time.monotonic() < end
        time.sleep(1)
    claims.release('looks')
    claims.close()


def table(folder):
    """Results, history and parameters, without times and attempts. (Who is killed between the two may leave epochs without a result in
    the file of the history; the ledger passes over them.)"""
    results, _, params = bits(folder)
    history = ({k: v for k, v in row.items() if k not in TIMES} for row in ledger.Ledger(folder).history())
    return results, sorted(json.dumps(row, sort_keys=True) for row in history), params


def compare(folder, undisturbed):
    """(cells missing, cells twice, whether the tables differ, litter)."""
    names = [row['cell'] for row in lines(folder, 'results.jsonl')]
    expected = {row['cell'] for row in lines(undisturbed, 'results.jsonl')}
    return len(expected - set(names)), len(names) - len(set(names)), table(folder) != table(undisturbed), litter(folder)


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """The undisturbed sweep of 500 cells."""
    folder = tmp_path_factory.mktemp('tiny')
    finish(start(folder, *TINY, '--seeds=100', '--workers=2'))
    return folder


@pytest.fixture
def figure(record_property):
    """Say at the end what became of a sweep."""

    def say(what, missing, twice, differs):
        record_property('figure', f'{what}: {missing} missing, {twice} twice, tables {"differ" if differs else "equal"}')

    return say


@pytest.mark.endurance
def test_a_sweep_of_500_cells_under_100_kills(tiny, tmp_path, figure):
    sweep_under_fire(tmp_path, 100, 100, random.Random(0))
    missing, twice, differs, left = compare(tmp_path, tiny)
    figure('sweep of 500 cells, 4 workers, 100 kills', missing, twice, differs)
    assert (missing, twice, differs, left) == (0, 0, False, [])


@pytest.mark.endurance
def test_two_hosts_whose_clocks_differ_share_a_sweep(tiny, tmp_path, figure):
    """Each sees its own processes alone, as on another machine; one is ten minutes ahead."""
    alone = ('unshare', '--pid', '--fork', '--kill-child', '--mount-proc')
    if os.getuid() or subprocess.run([*alone, 'true'], capture_output=True).returncode:
        pytest.skip('needs root, for process namespaces')
    (tmp_path / 'clock').mkdir()
    (tmp_path / 'clock' / 'sitecustomize.py').write_text(textwrap.dedent("""
        import time
        for name, unit in (('time', 1), ('time_ns', 10**9), ('monotonic', 1), ('monotonic_ns', 10**9)):
            setattr(time, name, lambda of=getattr(time, name), unit=unit: of() + 600 * unit)
    """))  # fmt: skip
    hosts = ((alone, {}), (alone, {'PYTHONPATH': f'{tmp_path / "clock"}:{os.environ.get("PYTHONPATH", "")}'}))
    folder = tmp_path / 'shared'
    sweep_under_fire(folder, 100, 20, random.Random(2), hosts)
    missing, twice, differs, _ = compare(folder, tiny)
    figure('two hosts, clocks 10 minutes apart, 20 kills', missing, twice, differs)
    look_around(folder)
    assert (missing, twice, differs, litter(folder)) == (0, 0, False, [])


@pytest.mark.endurance
def test_how_soon_a_signal_ends_a_sweep(tmp_path, record_property):
    seconds = []
    for i in range(10):
        process = start(tmp_path / str(i), '--workers=2', '--epochs=2000', '--save_every=3600')
        deadline = time.monotonic() + 120
        while len(lines(tmp_path / str(i), 'cells.jsonl')) == 0 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(random.Random(i).uniform(1, 10))
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        finish(process, 128 + signal.SIGTERM)
        seconds.append(time.monotonic() - asked)
    record_property('figure', f'SIGTERM to exit: {statistics.median(seconds):.1f} s (median of 10), {max(seconds):.1f} s at most')
    assert max(seconds) < 5
