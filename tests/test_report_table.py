"""The summary, its CSV file and the printed tables."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_fakes import SIX, TWELVE, fake_rows, summary_of

from cnn_research.report.table import (
    COLUMNS,
    format_table,
    percent,
    percent_decimals,
    summarise,
    unresolved,
    write_csv,
)
from cnn_research.stats import holm, mean_interval


def test_statistics_are_over_finished_cells_only():
    rows = fake_rows(SIX)
    line = summarise(rows, ['conv_flat'])[0]
    values = [row['test_accuracy'] for row in rows if row['arm'] == 'conv_flat' and row['status'] == 'ok']
    expected = mean_interval(values)
    assert tuple(line) == COLUMNS
    assert (line['n'], line['diverged'], line['failed'], line['refused']) == (4, 1, 0, 0)
    assert (line['test_accuracy_mean'], line['ci95_low'], line['ci95_high']) == (
        expected.mean, expected.low, expected.high,
    )  # fmt: skip
    assert line['seconds_mean'] == pytest.approx(np.mean([r['seconds'] for r in rows if r['cell'] in {
        f'conv_flat-{seed}' for seed in range(4)}]))  # fmt: skip


def test_an_arm_that_never_finished_has_counts_but_no_statistics():
    rows = [row | {'status': 'failed', 'test_accuracy': None} for row in fake_rows(SIX) if row['arm'] == 'conv_gmp']
    line = summarise(rows, ['conv_gmp'])[0]
    assert (line['n'], line['failed'], line['weights']) == (0, 5, 5_130)
    assert all(line[key] is None for key in COLUMNS if key.endswith(('_mean', '_low', '_high')))
    assert '5 failed' in format_table([line])
    assert '–' in format_table([line])


def test_a_statistic_some_finished_cell_lacks_is_left_undefined():
    rows = fake_rows(SIX)
    rows[0]['test_loss'] = None
    rows[1]['train_loss'] = float('nan')
    line = summarise(rows, ['conv_gmp'])[0]
    assert line['test_loss_mean'] is None
    assert line['train_loss_mean'] is None
    assert line['test_accuracy_mean'] is not None


@given(st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_changes_no_bit(random):
    rows = fake_rows(SIX)
    shuffled = rows[:]
    random.shuffle(shuffled)
    assert repr(summarise(shuffled, list(SIX))) == repr(summarise(rows, list(SIX)))


def test_mixed_purposes_and_repeated_seeds_are_refused():
    rows = fake_rows(SIX)
    with pytest.raises(ValueError, match='main, tune'):
        summarise([*rows, rows[0] | {'purpose': 'tune', 'seed': 99}], list(SIX))
    with pytest.raises(ValueError, match='more than one row for seed 0'):
        summarise([*rows, rows[0]], list(SIX))


def test_counts_the_rows_disagree_on_are_left_undefined():
    rows = fake_rows(SIX)
    rows[0]['learning_rate'] = 0.5
    assert summarise(rows, ['conv_gmp'])[0]['learning_rate'] is None


def test_csv_loses_nothing(tmp_path):
    summary = summary_of(SIX, lone='local_gmp')
    write_csv(tmp_path / 'summary.csv', summary)
    with open(tmp_path / 'summary.csv', newline='', encoding='utf-8') as file:
        back = list(csv.DictReader(file))
    assert len(back) == len(summary)
    for text, line in zip(back, summary, strict=True):
        for key, value in line.items():
            assert text[key] == '' if value is None else type(value)(text[key]) == value


def test_csv_writes_numpy_floats_and_awkward_names(tmp_path):
    line = summary_of(SIX)[0] | {'arm': 'a,"b"', 'test_accuracy_mean': np.float64(0.1)}
    write_csv(tmp_path / 'summary.csv', [line])
    text = (tmp_path / 'summary.csv').read_text('utf-8')
    assert text.splitlines()[1].startswith('"a,""b"""')
    assert ',0.1,' in text


def test_printed_table_fits_a_terminal_and_says_what_went_wrong():
    text = format_table(summary_of(TWELVE, lone='k7_local'))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 110
    assert [line.split()[0] for line in lines[2:14]] == list(TWELVE)
    assert '1 diverged' in next(line for line in lines if line.startswith('k3_shared'))
    assert '±' not in next(line for line in lines if line.startswith('k7_local'))
    assert '±' in next(line for line in lines if line.startswith('k9_shared'))
    # All percent signs of the test accuracy stand in one column.
    assert len({line.index('%') for line in lines[2:14]}) == 1


def test_narrow_intervals_get_a_second_decimal():
    line = summary_of(SIX)[0] | {'test_accuracy_mean': 0.98765, 'ci95_low': 0.98735, 'ci95_high': 0.98795}
    assert percent(line, ('test_accuracy_mean', 'ci95_low', 'ci95_high'), percent_decimals([line])) == (
        '98.77 %', '± 0.03',
    )  # fmt: skip


def test_differences_are_paired_by_seed():
    rows = fake_rows(SIX)
    lines = {line['arm']: line for line in summarise(rows, list(SIX), {'conv_flat': 'conv_gmp', 'local_gmp': 'conv_flat'})}
    own = {r['seed']: r['test_accuracy'] for r in rows if r['arm'] == 'conv_flat' and r['status'] == 'ok'}
    reference = {r['seed']: r['test_accuracy'] for r in rows if r['arm'] == 'conv_gmp'}
    expected = mean_interval([own[seed] - reference[seed] for seed in sorted(own)])
    line = lines['conv_flat']
    assert len(own) == 4
    assert (line['difference_mean'], line['difference_ci95_low'], line['difference_ci95_high']) == (
        expected.mean,
        expected.low,
        expected.high,
    )
    assert line['compared_with'] == 'conv_gmp'
    assert lines['conv_gmp']['compared_with'] is None and lines['conv_gmp']['difference_mean'] is None
    text = format_table(list(lines.values()))
    assert 'difference' in text.splitlines()[0]
    assert next(line for line in text.splitlines() if line.startswith('conv_flat ')).count('conv_gmp') == 1
    assert f'{100 * expected.mean:+.1f} ±' in text


@pytest.mark.parametrize('other', [None, 'conv_gmp', 'not an arm'])
def test_nothing_is_compared_with_an_arm_that_is_not_shown(other):
    summary = summarise(fake_rows(SIX), ['local_gmp', 'dense_wide'], {'local_gmp': other} if other else {})
    assert all(line['difference_mean'] is None for line in summary)
    assert 'difference' not in format_table(summary)


def test_rates_are_shown_where_they_differ():
    summary = summary_of(SIX)
    assert ' rate ' in format_table(summary).splitlines()[0]
    assert ' rate ' not in format_table([line | {'learning_rate': 0.01} for line in summary]).splitlines()[0]


def test_what_is_not_resolved_is_named_with_the_seeds_that_it_would_take():
    rows = fake_rows(SIX)
    pairs = {name: 'conv_gmp' for name in SIX if name != 'conv_gmp'}
    lines = {line['arm']: line for line in summarise(rows, list(SIX), pairs)}
    told = {name for name in pairs if not lines[name]['difference_ci95_low'] <= 0 <= lines[name]['difference_ci95_high']}
    (said,) = unresolved(list(lines.values())) or ('',)
    assert {name for name in pairs if name in said} == set(pairs) - told and told
    for name in set(pairs) - told:
        assert f'{name} (' in said
    ps = [lines[name]['difference_p'] for name in pairs]
    assert [lines[name]['difference_p_holm'] for name in pairs] == holm(ps) and lines['conv_gmp']['difference_p_holm'] is None
    same = lines['conv_flat'] | {'difference_ci95_low': -0.01, 'difference_ci95_high': 0.01, 'difference_seeds_needed': None}
    assert 'conv_flat (more than 10,000)' in format_table([same])
    assert unresolved([same | {'difference_ci95_low': 0.0, 'difference_ci95_high': 0.0}])[0].endswith(': conv_flat')
