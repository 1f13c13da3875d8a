"""Fuzzed flags and configurations: whatever is typed or stands in a file is accepted or refused in words, and nothing is written.

Everyday runs take some thousands of inputs, `python -m pytest -m endurance tests/test_fuzz.py` takes 100,000.
"""

import contextlib
import functools
import io
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter

import fuzz_inputs
import pytest

from cnn_research import config, data, errors, hosts, keeping, ledger, slurm, sweep
from experiments import (
    augmentation,
    benchmark,
    dense_replacement,
    edge_anywhere,
    feature_maps,
    filter_size,
    flags,
    identities,
    image_size,
    red_green,
    relaxation,
    runner,
    sample_efficiency,
    sharing_axis,
    translation,
    weight_sharing,
    weights,
)

ON_DIGITS = (weight_sharing, filter_size, dense_replacement, sharing_axis, translation, relaxation, augmentation)
ABLATIONS = (*ON_DIGITS, edge_anywhere, image_size, red_green)
COMMANDS = {sample_efficiency: 'job', weights: 'run', feature_maps: 'run', benchmark: 'run', identities: 'run'}  # what does the work
HELP = ('--help', '-h')
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {'os.mkdir', 'os.rename', 'os.remove', 'os.rmdir', 'os.link', 'os.symlink', 'os.truncate', 'subprocess.Popen', 'socket.connect'}
changes: list[str] | None = None  # that the watched thread makes
watched = 0


def hear(event, args):
    if (
        changes is not None
        and threading.get_ident() == watched
        and (event in CHANGES or (event == 'open' and isinstance(args[2], int) and args[2] & WRITING))
    ):
        changes.append(f'{event} {args}')


sys.addaudithook(hear)


@contextlib.contextmanager
def nothing_made(folder):
    """Fails if anything is opened for writing, made, moved, removed, started or connected to within, or found in the folder after it."""
    global changes, watched
    changes, watched, before = [], threading.get_ident(), sorted(folder.rglob('*'))
    try:
        yield
        found = changes
    finally:
        changes = None
    assert found == [] and sorted(folder.rglob('*')) == before


def test_what_is_made_is_noticed(tmp_path):
    for make in (lambda: (tmp_path / 'a').write_text(''), lambda: os.mkdir(tmp_path / 'b'), lambda: os.open(tmp_path / 'a', os.O_RDWR)):
        with pytest.raises(AssertionError), nothing_made(tmp_path):
            make()


class Reached(BaseException):
    """The command line was accepted: work would begin. Holds what was asked."""


def reached(*args, **kwargs):
    raise Reached(*args)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to be in and at home in."""
    home = tmp_path / 'home'
    home.mkdir()
    monkeypatch.chdir(home)
    for name in ('HOME', 'TFDS_DATA_DIR'):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setattr(sys, 'dont_write_bytecode', True)
    handler = signal.getsignal(signal.SIGTERM)
    yield home
    signal.signal(signal.SIGTERM, handler)


class Tally:
    """Outcomes, and the kinds of messages: without the command, numbers, and what is quoted or listed."""

    def __init__(self):
        self.outcomes, self.kinds, self.start = Counter(), Counter(), time.process_time()

    def refused(self, lines):
        self.outcomes['refused'] += 1
        for line in lines:
            words = re.split(r'[\'"{[(;]|\bgot\b|\bknown:|\blacks\b', re.sub(r'^[a-z_]+: ', '', line))[0]
            self.kinds[re.sub(r'[\d.,]+', '#', words)] += 1

    def report(self, what, record_property):
        count, spent = sum(self.outcomes.values()), time.process_time() - self.start
        found = ', '.join(f'{outcome} {number:,}' for outcome, number in self.outcomes.most_common())
        record_property('figure', f'{count:,} {what} in {spent:,.0f} s: {found}, in {len(self.kinds)} kinds of messages')


def called(module, line):
    """The outcome of a command line in this process: the name of the command, and 'accepted', 'help' or the lines that refuse it."""
    out, err = io.StringIO(), io.StringIO()
    ablation = module in ABLATIONS
    values = flags.FLAGS if ablation else module.FLAGS
    for name in values:
        values[name].unparse()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            if ablation:
                runner.main(module.EXPERIMENT, module.__doc__, ['x', *line])
            else:
                module.main(['x', *line])
    except Reached as e:
        for value in e.args:
            if isinstance(value, runner.Asked):
                assert config.Config.from_json(value.base.to_json()) == value.base
        assert (out.getvalue(), err.getvalue()) == ('', '')
        return 'accepted', []
    except SystemExit as e:
        if e.code == 0 and set(line) & set(HELP):
            assert '--' in out.getvalue() and err.getvalue() == ''
            return 'help', []
        if e.code == 0 and out.getvalue().startswith('#!/bin/bash'):  # a dry run
            return 'accepted', []
        name, lines = module.__name__.rpartition('.')[2], err.getvalue().removesuffix('\n').split('\n')
        assert e.code == 2 and out.getvalue() == '' and all(line.startswith(f'{name}: ') and len(line) > 20 for line in lines), lines
        return 'refused', lines
    raise AssertionError('the command ended without a status')


def fuzz(count, modules, place, tmp_path):
    """So many random command lines of these commands."""
    flags.define()
    source, tally, flagfiles = random.Random(count), Tally(), []
    for i in range(40):
        flagfiles.append(str(tmp_path / f'flagfile{i}'))
        (tmp_path / f'flagfile{i}').write_bytes(fuzz_inputs.flagfile(source))
    names = [name for _, name, _, _ in flags._TABLE]
    with nothing_made(place):
        for _ in range(count):
            module = source.choice(modules)
            if module in ABLATIONS:
                line = fuzz_inputs.command_line(source, flags.FLAGS, names, list(module.EXPERIMENT.arms), flagfiles)
            else:
                line = fuzz_inputs.command_line(source, module.FLAGS, list(module.FLAGS), [], flagfiles)
            try:
                outcome, lines = called(module, line)
            except Exception as e:
                raise AssertionError(f'{module.__name__} {line}') from e
            tally.refused(lines) if outcome == 'refused' else tally.outcomes.update([outcome])
    return tally


@pytest.mark.parametrize('count', [2000, pytest.param(60_000, marks=pytest.mark.endurance)])
def test_any_command_line_is_accepted_or_refused_in_words(count, place, tmp_path, monkeypatch, record_property):
    monkeypatch.setattr(runner, 'run', reached)
    for module, work in COMMANDS.items():
        monkeypatch.setattr(module, work, reached)
    tally = fuzz(count, (*ABLATIONS, *COMMANDS), place, tmp_path)
    tally.report('command lines', record_property)
    assert tally.outcomes['accepted'] > 0.25 * count and tally.outcomes['refused'] > 0.25 * count and tally.outcomes['help']
    assert len(tally.kinds) > 150


@pytest.mark.parametrize('count', [100, pytest.param(1000, marks=pytest.mark.endurance)])
def test_any_command_line_on_data_is_accepted_or_refused_before_a_folder_is_made(count, place, tmp_path, monkeypatch, record_property):
    monkeypatch.setattr(ledger.Ledger, 'create', reached)
    monkeypatch.setattr(sweep, 'devices', lambda: 8)
    monkeypatch.setattr(hosts, 'start', lambda where: None)
    monkeypatch.setattr(slurm, 'check_is_here', lambda: None)
    keeping.commit()  # asks git, once in a process
    monkeypatch.setattr(data, 'load', functools.cache(data.load))
    monkeypatch.setitem(fuzz_inputs.RIGHT, 'dataset', ['digits', 'digits/9', 'red_green', 'digits/7', 'a b', *fuzz_inputs.tasks.GENERATED])
    tally = fuzz(count, (*ON_DIGITS, sample_efficiency), place, tmp_path)
    tally.report('command lines on data', record_property)
    assert tally.outcomes['accepted'] > 0.2 * count and tally.outcomes['refused'] > 0.2 * count
    assert sum('images' in kind or 'kernel of' in kind or 'positions for' in kind or 'need' in kind for kind in tally.kinds) > 3


@pytest.mark.parametrize('count', [2000, pytest.param(39_000, marks=pytest.mark.endurance)])
def test_any_tree_is_a_configuration_or_refused_in_words(count, place, record_property):
    source, tally = random.Random(count), Tally()
    with nothing_made(place):
        for _ in range(count):
            c = fuzz_inputs.a_config(source)
            tree, donor, mutations = c.to_json(), fuzz_inputs.a_config(source).to_json(), source.randrange(4)
            for _ in range(mutations):
                tree = fuzz_inputs.mutated(source, tree, donor)
            try:
                found = config.Config.from_json(tree)
            except errors.InputError as e:
                tally.refused(str(e).split('\n'))
                assert mutations and all(message.strip() and len(message) < 1000 for message in e.args)
                continue
            tally.outcomes['changed and accepted' if mutations else 'accepted'] += 1
            assert found == config.Config.from_json(found.to_json()) and hash(found) == hash(config.Config.from_json(found.to_json()))
            assert mutations or found == c
    tally.report('configurations', record_property)
    assert min(tally.outcomes['changed and accepted'], tally.outcomes['accepted'], tally.outcomes['refused']) > 0.1 * count
    assert len(tally.kinds) > 80
