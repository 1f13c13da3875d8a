"""Results to tables, figures and one self-contained page.

Nothing is imported here: `table` needs scipy only, `figures` needs matplotlib and `page` needs jinja2, so a command
that prints a table does not wait for the plotting library.
"""
