"""The page, and writing files whole or not at all."""

import functools
import os
import re
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_fakes import SIX, TWELVE, every_figure, fake_example, summary_of

from cnn_research.files import atomic_write_text
from cnn_research.report import figures
from cnn_research.report.page import table_view, write_page
from cnn_research.report.table import format_table


@functools.cache
def drawn(arms):
    """(title, caption, markup) of every figure, for arms as a tuple of items; drawn once, for drawing is slow."""
    svgs = [(f'Figure {i}', 'A caption', figures.figure_svg(f)) for i, f in enumerate(every_figure(dict(arms)))]
    image = figures.figure_img(figures.first_filters([fake_example()]), 'filters', dpi=40)
    return [*svgs, ('Filters', 'A caption', image)]


def page_of(arms, **options):
    """The text of a page with one table and every figure."""
    fields = {
        'title': 'Title', 'question': 'Question?', 'command': 'run it', 'answer': 'One.\n\nTwo.',
        'tables': [('Main runs', summary_of(arms, lone=list(arms)[-1]))],
        'figures': drawn(tuple(arms.items())), 'facts': {'Device': 'cpu'},
    } | options  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'report.html'
        write_page(path, **fields)
        return path.read_text('utf-8')


class Tags(HTMLParser):
    """All start tags with their attributes, and the elements left open."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ('meta', 'link', 'img', 'br'):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_asks_the_network_for_nothing():
    html = page_of(SIX)
    for tag, attributes in Tags(html).tags:
        assert tag not in ('script', 'iframe', 'object', 'embed', 'base', 'form')
        for name, value in attributes.items():
            assert not name.startswith('on')
            if name in ('src', 'href', 'xlink:href', 'srcset', 'action', 'data', 'poster'):
                assert value.startswith(('data:', '#')), (tag, name, value)
    assert '@import' not in html
    assert set(re.findall(r'url\((.)', html)) <= {'#'}
    # What is left are names of XML vocabularies, which nobody fetches.
    assert set(re.findall(r'(\S*)="https?:', html)) <= {'xmlns', 'xmlns:xlink'}
    assert "default-src 'none'" in html


def test_every_string_is_escaped():
    bad = '<script>alert("1")</script>&amp;'
    arms = {bad: (5_000, 0.9, 0.5), 'other': (6_000, 0.8, 0.4)}
    html = page_of(arms, title=bad, question=bad, command=bad, answer=bad, facts={bad: bad},
                   tables=[(bad, summary_of(arms))])  # fmt: skip
    tags = Tags(html)
    assert 'script' not in [tag for tag, _ in tags.tags]
    assert tags.open == []
    assert html.count('&lt;script&gt;') >= 10
    with pytest.raises(TypeError, match='Markup'):
        page_of(arms, figures=[('name', 'caption', '<svg></svg>')])


def test_the_page_is_accessible_and_well_formed():
    tags = Tags(page_of(SIX))
    assert tags.open == []
    assert all(attributes.get('scope') in ('col', 'row') for tag, attributes in tags.tags if tag == 'th')
    images = [attributes for _, attributes in tags.tags if attributes.get('role') == 'img']
    assert len(images) == 5
    assert all(attributes['aria-label'] for attributes in images)
    assert all(attributes['alt'] for tag, attributes in tags.tags if tag == 'img')
    assert [tag for tag, _ in tags.tags].count('h1') == 1
    ids = [attributes['id'] for _, attributes in tags.tags if 'id' in attributes]
    assert len(ids) == len(set(ids))


def test_the_table_of_the_page_marks_the_best_and_shows_divergence():
    summary = summary_of(SIX, lone='dense_wide')
    rows = table_view('', summary)['rows']
    best = max(summary, key=lambda line: line['test_accuracy_mean'])['arm']
    assert [row['arm'] for row in rows if row['measured'][0]['best']] == [best]
    assert [row['trouble'] for row in rows] == ['', '1 diverged', '', '', '', '']
    assert [bool(row['measured'][0]['half']) for row in rows] == [True] * 5 + [False]
    assert '1 diverged' in page_of(SIX)


def test_an_empty_page_still_renders():
    html = page_of(SIX, tables=[], figures=[], facts={}, answer='')
    assert '<table>' not in html
    assert '<figure>' not in html


def test_importing_the_report_package_does_not_import_the_plotting_library():
    heavy = {'matplotlib', 'jinja2', 'jax', 'scipy.stats'}
    code = f'import sys, cnn_research.report.table; print({heavy} & set(sys.modules))'
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == 'set()'


def test_rates_are_shown_where_they_differ():
    same = [line | {'learning_rate': 0.01} for line in summary_of(SIX)]
    assert 'Learning rate</th>' in page_of(SIX)
    assert 'Learning rate</th>' not in page_of(SIX, tables=[('Main runs', same)])


def test_unseen_column_is_there_only_if_measured():
    assert 'unseen' not in format_table(summary_of(TWELVE))
    assert 'unseen' in format_table(summary_of(SIX))
    assert table_view('', summary_of(TWELVE))['unseen'] is False
    assert 'Unseen positions' not in page_of(TWELVE)
    assert 'Unseen positions' in page_of(SIX)


@pytest.mark.parametrize('fail', ['replace', 'fsync', 'encode'])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fail):
    path = tmp_path / 'report.html'
    atomic_write_text(path, 'old\r\nüñ\n')
    assert path.read_bytes() == 'old\r\nüñ\n'.encode()

    def broken(*_):
        raise OSError('disk full')

    if fail != 'encode':
        monkeypatch.setattr(os, fail, broken)
    with pytest.raises((OSError, UnicodeError)):
        atomic_write_text(path, 'new' + '\ud800' * (fail == 'encode'))
    assert path.read_bytes() == 'old\r\nüñ\n'.encode()
    assert os.listdir(tmp_path) == ['report.html']
