"""A sweep on many machines: the same command as the tasks of one SLURM array, which share the cells through one folder (imports no jax)."""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cnn_research import errors, files

_NOTICE = 60  # seconds before the end of its time at which a task is asked to save and end

# By USR1 SLURM tells the end of a task's time, by TERM that it is cancelled, or displaced, and then SLURM itself requeues it.
_BODY = """\
# Every task runs the same command. When its time is up a task saves what it is at, and goes back into the queue.
again= child=
trap 'again=1; kill -TERM $child 2> /dev/null' USR1
trap 'kill -TERM $child 2> /dev/null' TERM
{command} &
child=$!
while :; do wait "$child"; status=$?; kill -0 "$child" 2> /dev/null || break; done
if [ -n "$again" ] && [ "$status" -eq 143 ]; then scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"; fi
exit "$status"
"""


def script(name: str, command: Sequence[str], folder: Path, tasks: int, options: Sequence[str]) -> str:
    """The batch script of an array of so many tasks. options: of sbatch, such as '--partition=gpu'; they come last and so prevail.

    Raises:
      InputError: a folder's name, or a word of the command, that a line of a script cannot hold.
    """
    for text in (str(Path.cwd()), str(_logs(folder)), *command):
        errors.require(text.isprintable(), f'a batch script cannot hold {errors.shown(text)}: it has characters that are not printed')
    output = str(_logs(folder)).replace('%', '%%') + '/%A_%a.log'
    own = {
        'job-name': name, 'array': f'0-{tasks - 1}', 'chdir': Path.cwd(), 'output': output, 'open-mode': 'append',
        'signal': f'B:USR1@{_NOTICE}',
    }  # fmt: skip
    lines = ['#!/bin/bash', *(f'#SBATCH --{option}={shlex.quote(str(value))}' for option, value in own.items()), '#SBATCH --requeue']
    return '\n'.join([*lines, *(f'#SBATCH {option}' for option in options), _BODY.format(command=shlex.join(command))])


def read_options(text: str) -> list[str]:
    """Options of sbatch from one line of a command. Raises InputError unless all are written --name or --name=value."""
    try:
        options = shlex.split(text)
    except ValueError as e:
        raise errors.InputError(f'sbatch cannot be read ({e}): got {errors.shown(text)}') from None
    for option in options:
        plain = option.startswith('-') and option.isprintable()
        errors.require(plain, f'sbatch must be options like "--partition=gpu --time=4:00:00", got {errors.shown(option)}')
    return [shlex.quote(option) for option in options]


def check_is_here() -> None:
    """Raises InputError where no jobs can be submitted."""
    hint = 'run this where jobs are submitted, or see with --dry_run what it would submit'
    errors.require(shutil.which('sbatch') is not None, f'sbatch was not found: {hint}')


def submit(text: str, folder: Path) -> str:
    """Keep the script in the folder of the sweep and submit it: the job's number.

    Raises:
      InputError: SLURM refuses the job; its own words are in the message.
    """
    path = folder.resolve() / 'slurm.sh'
    with files.writing(folder):
        _logs(folder).mkdir(exist_ok=True)
        files.atomic_write_text(path, text)
    done = subprocess.run(['sbatch', '--parsable', str(path)], capture_output=True, text=True)
    if done.returncode:
        raise errors.InputError(f'SLURM refuses the job: {done.stderr or done.stdout}')
    return done.stdout.strip().partition(';')[0]


def _logs(folder: Path) -> Path:
    return folder.resolve() / 'slurm'
