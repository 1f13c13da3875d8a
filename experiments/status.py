"""What is done, running, waiting and gone wrong in the folder of a run, and how long it will take.

    python -m experiments.status runs/weight_sharing

It only reads, so it can be asked at any time, on any machine that sees the folder. A cell is running while the process that has claimed it
moves its counter; that of another machine is watched for three seconds. The time left is reckoned from what finished cells took.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from cnn_research import claims, errors, ledger
from cnn_research.report import table
from experiments import flags, runner

_STATES = ('done', 'running', 'waiting', 'failed', 'diverged', 'refused')
_WATCHED = 3 * claims.BEAT  # seconds
_SHOWN = 10  # cells that are named


class Running(dict[str, float]):
    """The share done of every cell that a living process is at; `processes` is how many there are."""

    processes = 0


def running(book: ledger.Ledger) -> Running:
    """What processes are at, those of other machines by a look of three seconds."""
    first = {beat.token: beat for beat in book.claims.beats() if not claims.gone_from_here(beat.token)}
    alive = [token for token in first if token.startswith(claims.host())]
    if len(alive) < len(first):
        time.sleep(_WATCHED)
        alive += [beat.token for beat in book.claims.beats() if beat.token in first and beat.counter != first[beat.token].counter]
    found = Running()
    for token in dict.fromkeys(alive):
        cells = json.loads(first[token].says) if first[token].says else []
        found |= {cell['cell']: cell['share'] for cell in cells}
        found.processes += bool(cells)
    return found


def _cells(book: ledger.Ledger) -> dict[str, dict[str, Any]]:
    """Arm and effort of every cell that was ever asked for; those of whom but a result is left are known by it."""
    lost = {cell: {'cell': cell, 'arm': row.get('arm', cell), 'effort': 0} for cell, row in book.results().items()}
    return lost | book.asked()


def states(book: ledger.Ledger, at_work: Running) -> dict[str, str]:
    """One of `_STATES` for every cell that was ever asked for."""
    rows = book.results()
    found = {}
    for cell in _cells(book):
        status = rows[cell]['status'] if cell in rows else ''
        found[cell] = 'running' if cell in at_work else {'ok': 'done', '': 'waiting'}.get(status, status)
    return found


def seconds_left(book: ledger.Ledger, at_work: Running) -> float | None:
    """How long the processes that are at work will take for what waits; None where nothing runs, or nothing has finished yet."""
    asked, rows = _cells(book), book.results()
    finished = [cell for cell in asked if cell in rows and rows[cell]['status'] == 'ok']
    took, effort = (sum(values) for values in ([rows[c]['seconds'] for c in finished], [asked[c]['effort'] for c in finished]))
    if not at_work or not took or not effort:
        return None
    left = sum(cell['effort'] * (1 - at_work.get(name, 0.0)) for name, cell in asked.items() if name not in rows or name in at_work)
    return left * took / effort / at_work.processes


def told(book: ledger.Ledger) -> str:
    """All of it as text."""
    study, at_work = book.study(), running(book)
    of, asked, rows = states(book, at_work), _cells(book), book.results()
    counts, left = Counter(of.values()), seconds_left(book, at_work)
    parts = [f'{counts[state]} {state}' for state in _STATES if counts[state]]
    parts += [f'about {_human(left)} left'] if left is not None else []
    lines = [
        f'{study["experiment"]} in {book.folder}: {len(of)} cells, {", ".join(parts)}' if of else f'{book.folder} has no cells yet',
        '',
    ]
    arms = dict.fromkeys(cell['arm'] for cell in asked.values())
    shown = [state for state in _STATES if counts[state]]
    body = [(arm, *(str(sum(of[c] == state and asked[c]['arm'] == arm for c in of)) for state in shown)) for arm in arms]
    lines += [table.plain(('arm', *shown), body)] if len(arms) < len(of) else []
    lines += [f'running: {cell}, {100 * share:.0f} %' for cell, share in list(at_work.items())[:_SHOWN]]
    lines += [f'{of[cell]}: {cell}{_why(rows[cell])}' for cell in of if of[cell] in ('failed', 'diverged', 'refused')][:_SHOWN]
    if counts['failed']:
        lines.append('The same command with --retry runs what failed once more; results.jsonl has the tracebacks.')
    return '\n'.join(lines)


def _why(row: Mapping[str, Any]) -> str:
    if row['status'] == 'diverged':
        return f' at step {row["diverged_at"]}, in {row["diverged_in"]}'
    return f': {row["error"]}' if 'error' in row else ''


def _human(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f'{seconds:.0f} s' if minutes < 2 else f'{minutes} min' if minutes < 120 else f'{minutes / 60:.1f} h'


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Exit with 0, or 2 for what is not the folder of a run."""
    argv = list(sys.argv if argv is None else argv)
    if flags.asked_for_help(argv):
        print((__doc__ or '').strip())
        sys.exit(0)

    def job() -> int:
        if len(argv) != 2 or argv[1].startswith('-'):
            raise errors.InputError('give the folder of one run: python -m experiments.status runs/weight_sharing')
        print(told(ledger.Ledger(argv[1])))
        return 0

    runner.guarded('status', job, 'nothing was changed')


if __name__ == '__main__':
    main()
