"""One module per question; each is a command: `python -m experiments.NAME --help`."""
