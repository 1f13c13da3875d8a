"""The answer at the head of the page says no more than the seeds do."""

from report_fakes import fake_rows

from cnn_research.report import table
from experiments import answers


def said(means, seeds=5):
    """The answer for arms with these test accuracies, whose seeds all deviate alike by up to 0.4 points, and arm 'shaky' by 10."""
    rows = fake_rows({arm: (1000, mean, None) for arm, mean in means.items()}, seeds)
    for row in rows:
        spread = 0.1 if row['arm'] == 'shaky' else 0.002
        row |= {'status': 'ok', 'test_accuracy': means[row['arm']] + spread * (-1) ** row['seed'] * (1 + row['seed'] / 10)}
    return answers.answer(table.summarise(rows, list(means)), rows)


def test_it_names_the_highest_mean_and_the_arms_not_told_from_it():
    text = said({'a': 0.95, 'b': 0.951, 'c': 0.90, 'shaky': 0.90})
    assert text.startswith('b has the highest mean, 95.1 % [')
    assert 'These seeds do not tell it from shaky: the 95 % interval' in text  # a and c are apart from b in every seed alike


def test_equal_arms_are_not_told_apart():
    assert 'do not tell it from b:' in said({'a': 0.95, 'b': 0.95})


def test_one_seed_tells_nothing():
    assert 'do not tell it from b:' in said({'a': 0.95, 'b': 0.5}, seeds=1)
    assert 'do not tell' not in said({'a': 0.95})


def test_an_interval_ends_where_accuracies_do():
    assert '100.0]' in said({'shaky': 0.97, 'b': 0.1})
