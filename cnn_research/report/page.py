"""The report: one HTML file that holds everything it shows and asks the network for nothing."""

import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from cnn_research.files import atomic_write_text
from cnn_research.report.table import (
    MEASURES,
    TEST,
    UNSEEN,
    Summary,
    compared_in,
    count,
    difference,
    has_differences,
    has_unseen,
    percent,
    percent_decimals,
    percent_mean,
    rate,
    seconds,
    troubles,
    unresolved,
)


def write_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    question: str,
    command: str,
    answer: str,
    tables: Sequence[tuple[str, Summary]],
    figures: Sequence[tuple[str, str, Markup]],
    facts: Mapping[str, str],
) -> None:
    """Write the report to `path`, whole or not at all.

    answer: plain text; a blank line starts a paragraph. tables: (caption, summary as `table.summarise` makes it).
    figures: (title, caption, markup from `figure_svg` or `figure_img`). facts: name -> text, for the foot of the page.
    Every string is escaped; only the figures' markup goes in as it is, and so must be `Markup`.
    """
    for name, _, markup in figures:
        if not isinstance(markup, Markup):
            raise TypeError(f'figure {name!r} must be Markup, from figure_svg or figure_img')
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files('cnn_research.report').joinpath('page.html').read_text('utf-8'))
    html = template.render(
        title=title,
        question=question,
        command=command,
        answer=[part for part in re.split(r'\n\s*\n', answer.strip()) if part],
        tables=[table_view(caption, summary) for caption, summary in tables],
        figures=figures,
        facts=facts,
    )
    atomic_write_text(path, html)


def table_view(caption: str, summary: Summary) -> dict[str, Any]:
    """What the template shows of a summary: formatted cells, the best means marked, empty columns left out."""
    decimals = percent_decimals(summary)
    unseen = has_unseen(summary)
    keys = [TEST, UNSEEN] if unseen else [TEST]
    best = {mean: max((line[mean] for line in summary if line[mean] is not None), default=None) for mean, *_ in keys}
    rows = []
    for line in summary:
        measured = []
        for key in keys:
            value, half = percent(line, key, decimals)
            # With one arm alone there is nothing to be best of.
            top = line[key[0]] is not None and line[key[0]] == best[key[0]] and len(summary) > 1
            measured.append({'value': value, 'half': half, 'best': top})
        rows.append({
            'arm': line['arm'], 'trouble': troubles(line), 'runs': line['n'], 'rate': rate(line['learning_rate']),
            'weights': count(line['weights']), 'connections': count(line['connections']), 'macs': count(line['macs']),
            'measured': measured, 'difference': difference(line, decimals),
            'to': line['compared_with'] or '', 'train': percent_mean(line['train_accuracy_mean'], decimals),
            'seconds': seconds(line['seconds_mean']),
        })  # fmt: skip
    measure = MEASURES[compared_in(summary) or 'test_accuracy'][0]
    return {'caption': caption, 'unseen': unseen, 'rows': rows, 'compared': has_differences(summary), 'measure': measure,
            'rates': len({line['learning_rate'] for line in summary}) > 1, 'unresolved': unresolved(summary),
            'intervals': any(cell['half'] for row in rows for cell in row['measured'])}  # fmt: skip
