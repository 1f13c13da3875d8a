"""Random damage to what a run leaves behind: noticed, or harmless, and never a wrong result."""

import json
import logging
import os
import random
import shutil

import numpy as np
import pytest
from test_checkpoint import STATE, bits

from cnn_research import checkpoint, errors, ledger

CELLS = ('a', 'b', 'c')
STUDY = {'experiment': 'e', 'base': {'epochs': 3}}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The folder of a run with three cells, one of them twice, and a training that has not ended."""
    folder = tmp_path_factory.mktemp('run') / 'study'
    book = ledger.Ledger(folder)
    book.create(STUDY)
    book.ask([{'cell': cell, 'arm': 'x', 'effort': 1} for cell in CELLS])
    for number, cell in enumerate(('a', 'b', 'a', 'c')):
        row = {'cell': cell, 'status': 'ok' if number else 'failed', 'accuracy': number / 7, 'config': {'epochs': 3}}
        history = [{'cell': cell, 'epoch': epoch, 'loss': 1 / (number + epoch)} for epoch in (1, 2, 3)] if number else []
        with book.claim(cell):
            assert book.record(row, history, {'w': np.full((2, 3), number, np.float32)} if number else {})
    (folder / 'states').mkdir()
    for number in (1, 2):
        checkpoint.save(folder / 'states', 'd', number, STATE._replace(facts={'number': number}))
    book.claims.close()
    return folder


def read(folder):
    """(what can be read of every cell, of the newest state, what is noted besides, whether anything was told)."""
    told, found = [], {}
    book = ledger.Ledger(folder)
    handler = logging.Handler()
    handler.emit = told.append
    logging.getLogger('cnn_research').addHandler(handler)
    try:
        study = book.study()
        rows = book.results()
        for cell, row in rows.items():
            if book.holds_parameters(row):
                params = {name: array.tolist() for name, array in book.parameters(cell).items()}
                found[cell] = json.dumps([row, [h for h in book.history() if h['cell'] == cell], params])
        generations = checkpoint.numbers(folder / 'states', 'd')
        state = checkpoint.newest(folder / 'states', 'd', told.append)
        for number in generations:  # the older one too, which would be read if the newer one were damaged
            path = folder / 'states' / f'd.{number}.checkpoint'
            told += [] if path.exists() and checkpoint.decode(path.read_bytes()) else [number]
    except checkpoint.DamagedError as e:
        told.append(e)
    finally:
        logging.getLogger('cnn_research').removeHandler(handler)
    noted = (study, book.asked(), generations)
    return found, state and bits(state[1]), noted, bool(told)


def damage(rng, folder):
    """Harm one file in one way; what was done."""
    paths = sorted(path for path in folder.rglob('*') if path.is_file())
    path, kind = rng.choice(paths), rng.choice(('flip', 'flip', 'flip', 'cut', 'insert', 'delete', 'swap', 'line'))
    content = path.read_bytes()
    at = rng.randrange(len(content))
    if kind == 'flip':
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :])
    elif kind == 'cut':
        path.write_bytes(content[:at])
    elif kind == 'insert':
        path.write_bytes(content[:at] + rng.randbytes(rng.randint(1, 20)) + content[at:])
    elif kind == 'delete':
        path.unlink()
    elif kind == 'swap':
        other = rng.choice([p for p in paths if p != path])
        os.replace(path, folder / 'held')
        os.replace(other, path)
        os.replace(folder / 'held', other)
    else:  # of a file of lines one is lost; of another its first part
        rows = content.splitlines(keepends=True)
        del rows[rng.randrange(len(rows))]
        path.write_bytes(b''.join(rows))
    return f'{kind} {path.relative_to(folder)}'


def damaged(number, whole, tmp_path):
    """So many times: (refused or told or to run again, harmless), and what gave a wrong result."""
    rng, counts, wrong = random.Random(0), {'noticed': 0, 'harmless': 0}, []
    found, state, noted, told = read(whole)
    assert set(found) == set(CELLS) and not told
    states = [state, bits(STATE._replace(facts={'number': 1})), None]
    for i in range(number):
        folder = tmp_path / str(i)
        shutil.copytree(whole, folder)
        what = damage(rng, folder)
        try:
            now, its_state, its_noted, its_told = read(folder)
        except errors.InputError:
            counts['noticed'] += 1
        else:
            same = {cell: found[cell] for cell in now} == now and its_noted[0] == noted[0] and its_state in states
            if not same:
                wrong.append(what)
            less = set(now) != set(found) or its_noted != noted or its_state != state
            counts['noticed' if its_told or less else 'harmless'] += 1
        shutil.rmtree(folder)
    return counts, wrong


def test_no_damage_gives_a_wrong_result(whole, tmp_path):
    counts, wrong = damaged(150, whole, tmp_path)
    assert not wrong and counts['noticed'] > 100


@pytest.mark.endurance
def test_damage_by_the_hundred(whole, tmp_path, record_property):
    counts, wrong = damaged(1000, whole, tmp_path)
    text = f'{counts["noticed"]} noticed, {counts["harmless"]} of what nothing reads, {len(wrong)} wrong results'
    record_property('figure', f'results and checkpoints damaged 1000 times: {text}')
    assert not wrong
