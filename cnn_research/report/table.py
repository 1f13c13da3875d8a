"""One line per arm: the summary, its CSV file, and the tables printed in a terminal."""

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from cnn_research.files import atomic_write_text
from cnn_research.stats import Interval, holm, interquartile_mean, mean_interval, paired_difference

Row = Mapping[str, Any]
Summary = Sequence[Row]  # what `summarise` returns

COLUMNS = (
    'arm', 'n', 'diverged', 'failed', 'refused', 'learning_rate', 'weights', 'connections', 'macs',
    'test_accuracy_mean', 'ci95_low', 'ci95_high', 'test_accuracy_iqm', 'iqm_ci95_low', 'iqm_ci95_high',
    'unseen_accuracy_mean', 'unseen_ci95_low', 'unseen_ci95_high',
    'compared_with', 'difference_in', 'difference_mean', 'difference_ci95_low', 'difference_ci95_high',
    'difference_p', 'difference_p_holm', 'difference_effect', 'difference_seeds_needed',
    'validation_accuracy_mean', 'train_accuracy_mean', 'test_loss_mean', 'train_loss_mean', 'seconds_mean',
)  # fmt: skip
TEST = ('test_accuracy_mean', 'ci95_low', 'ci95_high')
UNSEEN = ('unseen_accuracy_mean', 'unseen_ci95_low', 'unseen_ci95_high')
DIFFERENCE = ('difference_mean', 'difference_ci95_low', 'difference_ci95_high')
NONE = '–'
# What arms are compared in (a key of a row): in a few words, and beside 'difference' at the head of a column.
MEASURES = {
    'test_accuracy': ('test accuracy', ''),
    'unseen_accuracy': ('accuracy on what training never shows', ', unseen'),
    'anywhere_accuracy': ('accuracy all over the canvas', ', anywhere'),
}


def check_one_purpose(rows: Sequence[Row]) -> None:
    """Averaging tuning runs together with the runs they tuned would be wrong without anyone noticing."""
    purposes = sorted({str(row['purpose']) for row in rows})
    if len(purposes) > 1:
        raise ValueError(f'rows of one purpose wanted, got {", ".join(purposes)}')


def summarise(
    rows: Sequence[Row], arms: Sequence[str], compared_with: Mapping[str, str] = MappingProxyType({}), measure: str = 'test_accuracy'
) -> list[dict[str, Any]]:
    """One dict per arm, in the order of `arms`, with the keys `COLUMNS`; rows of other arms are left out.

    rows: results of one purpose, at most one per arm and seed, in any order. `n` counts the `ok` cells and every mean
    and 95 % interval is over exactly those: where one of them lacks a value, the statistic is None. Accuracies are
    fractions, losses the mean per image, seconds per run. `learning_rate`, `weights`, `connections` and `macs` are
    None where the arm's rows disagree. `difference_*` is the `measure` (one of `MEASURES`) less that of the arm that
    `compared_with` names for it, paired by seed over the seeds both finished; None where it names none, or none of `arms`;
    `difference_p_holm` is corrected for all differences of the summary. See `stats` for what the statistics are.
    """
    check_one_purpose(rows)
    found = {arm: [row for row in rows if row['arm'] == arm] for arm in arms}
    summary = [_summarise_arm(arm, found[arm]) for arm in arms]
    for line in summary:
        other = compared_with.get(line['arm'])
        other = other if other in found else None
        ours, theirs = (by_seed(found[arm], measure) if arm and other else {} for arm in (line['arm'], other))
        less = paired_difference(ours, theirs)
        line |= {'compared_with': other, 'difference_in': measure if other else None}
        line |= zip(DIFFERENCE, (less.mean, less.low, less.high), strict=True)
        line |= {f'difference_{what}': getattr(less, what) for what in ('p', 'effect', 'seeds_needed')}
    for line, p in zip(summary, holm([line['difference_p'] for line in summary]), strict=True):
        line['difference_p_holm'] = p
    return [{column: line[column] for column in COLUMNS} for line in summary]


def by_seed(rows: list[Row], measure: str = 'test_accuracy') -> dict[int, float]:
    """The measure of the `ok` rows that have it, by seed."""
    return {row['seed']: row[measure] for row in rows if row['status'] == 'ok' and row.get(measure) is not None}


def compared_in(summary: Summary) -> str | None:
    """What the differences are in, a key of `MEASURES`; None where there are none."""
    return next((line['difference_in'] for line in summary if line['difference_in'] is not None), None)


def _summarise_arm(arm: str, rows: list[Row]) -> dict[str, Any]:
    rows = sorted(rows, key=lambda row: row['seed'])
    seeds = [row['seed'] for row in rows]
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise ValueError(f'arm {arm!r} has more than one row for seed {seed}')
    ok = [row for row in rows if row['status'] == 'ok']
    summary: dict[str, Any] = {'arm': arm, 'n': len(ok)}
    for status in ('diverged', 'failed', 'refused'):
        summary[status] = sum(row['status'] == status for row in rows)
    for key in ('learning_rate', 'weights', 'connections', 'macs'):
        summary[key] = _common(rows, key)
    for keys, name in ((TEST, 'test_accuracy'), (UNSEEN, 'unseen_accuracy')):
        interval = mean_interval(_values(ok, name))
        summary.update(zip(keys, (interval.mean, interval.low, interval.high), strict=True))
    middle = interquartile_mean(_values(ok, 'test_accuracy'))
    summary |= {'test_accuracy_iqm': middle.mean, 'iqm_ci95_low': middle.low, 'iqm_ci95_high': middle.high}
    for name in ('validation_accuracy', 'train_accuracy', 'test_loss', 'train_loss', 'seconds'):
        summary[f'{name}_mean'] = mean_interval(_values(ok, name)).mean
    return summary


def _common(rows: list[Row], key: str) -> Any:
    """The value all rows share, or None; nulls do not speak."""
    values = {row[key] for row in rows if row.get(key) is not None}
    return values.pop() if len(values) == 1 else None


def _values(rows: list[Row], key: str) -> list[float]:
    """The values of all rows, or none at all: a mean over some of them would not be the mean over n."""
    values = [row.get(key) for row in rows]
    complete = all(value is not None and math.isfinite(value) for value in values)
    return [float(value) for value in values if value is not None] if complete else []


def has_unseen(summary: Summary) -> bool:
    """Whether any arm was tested at positions it was not trained at."""
    return any(line['unseen_accuracy_mean'] is not None for line in summary)


def write_csv(path: str | os.PathLike[str], summary: Summary) -> None:
    """Write the summary under a header line. Floats go by repr, so reading gives the same bits; None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(COLUMNS)
    for line in summary:
        writer.writerow([_csv_cell(line[key]) for key in COLUMNS])
    atomic_write_text(path, text.getvalue())


def write_plain_csv(path: str | os.PathLike[str], columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write any table under a header line, whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows([columns, *rows])
    atomic_write_text(path, text.getvalue())


def _csv_cell(value: Any) -> str:
    if value is None:
        return ''
    return repr(float(value)) if isinstance(value, float) else str(value)


def percent_decimals(summary: Summary) -> int:
    """Digits after the point in percent: one, or two where an interval is too narrow to be seen at one."""
    spans = [(line[low], line[high]) for line in summary for _, low, high in (TEST, UNSEEN) if line[low] is not None]
    return 2 if any(0 < 50 * (high - low) < 0.095 for low, high in spans) else 1


def percent(line: Mapping[str, Any], keys: tuple[str, str, str], decimals: int) -> tuple[str, str]:
    """('97.3 %', '± 0.4'): a mean in percent and the half width of its interval in percentage points, '' if none."""
    mean, low, high = (line[key] for key in keys)
    return percent_mean(mean, decimals), '' if low is None else f'± {50 * (high - low):.{decimals}f}'


def interval(found: Interval, scale: float = 100, form: str = '.1f') -> str:
    """'93.5 ± 5.6': a mean and the half width of its interval, in percent if nothing else is said; `NONE` without a mean."""
    if found.mean is None:
        return NONE
    half = '' if found.low is None or found.high is None else f' ± {scale * (found.high - found.low) / 2:{form.lstrip("+")}}'
    return f'{scale * found.mean:{form}}{half}'


def has_differences(summary: Summary) -> bool:
    """Whether any arm is compared with another."""
    return any(line['difference_mean'] is not None for line in summary)


def difference(line: Mapping[str, Any], decimals: int) -> tuple[str, str]:
    """('+1.2', '± 0.6'): the difference to the arm compared with and the half width of its interval, in percentage points."""
    mean, low, high = (line[key] for key in DIFFERENCE)
    if mean is None:
        return NONE, ''
    return f'{100 * mean:+.{decimals}f}', '' if low is None else f'± {50 * (high - low):.{decimals}f}'


def rate(value: float | None) -> str:
    return NONE if value is None else f'{value:.3g}'


def percent_mean(value: float | None, decimals: int) -> str:
    return NONE if value is None else f'{100 * value:.{decimals}f} %'


def count(value: int | None) -> str:
    return NONE if value is None else f'{value:,}'


def seconds(value: float | None) -> str:
    return NONE if value is None else f'{value:,.1f}'


def troubles(line: Mapping[str, Any]) -> str:
    """'1 diverged, 2 failed', or '' when every run came through."""
    return ', '.join(f'{line[status]} {status}' for status in ('diverged', 'failed', 'refused') if line[status])


def format_table(summary: Summary) -> str:
    """The table for a terminal, one line per arm; columns nobody has a value for are left out."""
    decimals = percent_decimals(summary)
    columns: list[tuple[str, list[str]]] = [('n', [str(line['n']) for line in summary])]
    if len({line['learning_rate'] for line in summary}) > 1:
        columns.append(('rate', [rate(line['learning_rate']) for line in summary]))
    columns += [
        ('weights', [count(line['weights']) for line in summary]),
        ('MACs', [count(line['macs']) for line in summary]),
        ('test accuracy', _joined([percent(line, TEST, decimals) for line in summary])),
    ]
    if has_unseen(summary):
        columns.append(('unseen', _joined([percent(line, UNSEEN, decimals) for line in summary])))
    if has_differences(summary):
        columns.append(
            (f'difference{MEASURES[compared_in(summary) or "test_accuracy"][1]}', _joined([difference(line, decimals) for line in summary]))
        )
        columns.append(('to', [line['compared_with'] or '' for line in summary]))
    columns.append(('train', [percent_mean(line['train_accuracy_mean'], decimals) for line in summary]))
    columns.append(('seconds', [seconds(line['seconds_mean']) for line in summary]))
    lines = _aligned(('arm', [line['arm'] for line in summary]), columns, [troubles(line) for line in summary])
    if any(line['ci95_low'] is not None for line in summary):
        lines.append('± half the 95 % t interval over seeds, in percentage points')
    return '\n'.join(lines + unresolved(summary))


def unresolved(summary: Summary) -> list[str]:
    """A line on the differences whose interval holds zero: with how many seeds one that is as large has an even chance to be told."""
    found = []
    for line in summary:
        low, high, needed = line['difference_ci95_low'], line['difference_ci95_high'], line['difference_seeds_needed']
        if low is not None and low <= 0 <= high:
            more = 'more than 10,000' if needed is None else f'about {max(needed, line["n"] + 1):,}'
            found.append(f'{line["arm"]} ({more})' if low < high else line['arm'])
    return (
        [f'not told from the arm compared with (seeds at which a difference of that size has an even chance to be): {", ".join(found)}']
        if found
        else []
    )


def plain(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of anything for a terminal, the first column to the left; whole numbers get commas, other numbers three digits."""
    text = [[_plain(value) for value in row] for row in rows]
    first, *others = zip(columns, zip(*text, strict=True), strict=True)
    return '\n'.join(_aligned((first[0], list(first[1])), [(title, list(cells)) for title, cells in others], [''] * len(text)))


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f'{value:,}' if isinstance(value, int) else f'{value:.3g}'


def _joined(cells: list[tuple[str, str]]) -> list[str]:
    """Join means and half widths so that the points of both stand in line down the column."""
    wide, spread = (max((len(cell[part]) for cell in cells), default=0) for part in (0, 1))
    return [f'{mean:>{wide}} {half[:1]:1} {half[2:]:>{max(spread - 2, 0)}}' if spread else mean for mean, half in cells]


def _aligned(first: tuple[str, list[str]], columns: list[tuple[str, list[str]]], notes: list[str]) -> list[str]:
    """The header, a rule and the rows: the first column flush left, the others flush right, notes after them."""
    block = [first, *columns]
    widths = [max(len(title), *(len(cell) for cell in cells), 0) for title, cells in block]
    rows = [[title for title, _ in block], *(list(row) for row in zip(*(cells for _, cells in block), strict=True))]
    lines = ['  '.join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
             for row in rows]  # fmt: skip
    lines = [lines[0], *(f'{line}  {note}' if note else line for line, note in zip(lines[1:], notes, strict=True))]
    return [lines[0].rstrip(), '─' * (sum(widths) + 2 * (len(widths) - 1)), *(line.rstrip() for line in lines[1:])]
