"""Several processes as one, on any number of hosts: all run the same programs in step (`jax.distributed`), the first reads and writes.

What depends on a clock, a signal or a file is found out by one process and told to all, for they must take the same steps. An error of the
first process in what it does alone ends all of them.
"""

import collections
import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from cnn_research import cost, errors, layout

T = TypeVar('T')


class AgreedError(errors.InputError):
    """Bad input of which all processes know: each raises this."""


def start(where: str) -> None:
    """Join the other processes, before anything else of jax is used.

    where: see `layout.address`; with 'auto' SLURM, Cloud TPU, Open MPI or Kubernetes say who the others are.

    Raises:
      InputError: the others cannot be found, or have other numbers of devices.
    """
    known = layout.address(where)
    address, number, index = known or (None, None, None)
    try:
        jax.distributed.initialize(address, number, index, local_device_ids=_visible())
    except (RuntimeError, ValueError) as e:
        hint = '' if known else ': give --distributed=HOST:PORT,PROCESSES,INDEX'
        raise errors.InputError(f'the other processes were not found ({" ".join(str(e).split())}){hint}') from None
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        text = ', '.join(str(counts[index]) for index in sorted(counts))
        raise errors.InputError(f'every process must have as many devices as the others, here they have {text}')
    cost.limit_memory(_least(cost.memory()))


def _visible() -> list[int] | None:
    """Which devices of its machine a process takes: all if it is alone there. (In a step of SLURM jax gives it a single one.)"""
    tasks, nodes = (os.environ.get(name) for name in ('SLURM_STEP_NUM_TASKS', 'SLURM_STEP_NUM_NODES'))
    return [] if tasks is not None and tasks == nodes else None


def first() -> bool:
    """Whether this process is the one that reads and writes."""
    return jax.process_index() == 0


def agreed(value: T) -> T:
    """What the first process says; anything that JSON holds, of which tuples become lists. Alone, the value itself."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value if first() else None).encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    padded = np.zeros(1 << max(10, length.bit_length()), np.uint8)  # of few sizes, for each is a program
    if first():
        padded[:length] = text
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded))[:length].tobytes())


def of_first(tree: T) -> T:
    """The arrays that the first process has, in all, one array at a time; those of the others have the same shapes."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: np.asarray(multihost_utils.broadcast_one_to_all(leaf)), tree)


def anywhere(*facts: bool) -> list[bool]:
    """For each fact whether it holds in any process."""
    if jax.process_count() == 1:
        return list(facts)
    found = np.asarray(multihost_utils.process_allgather(np.array(facts))).reshape(-1, len(facts))
    return [bool(found[:, i].any()) for i in range(len(facts))]


def _least(value: int) -> int:
    """The least of what the processes have."""
    if jax.process_count() == 1:
        return value
    found = multihost_utils.process_allgather(np.frombuffer(np.int64(value).tobytes(), np.uint8))  # jax would make it an int32
    return int(np.ascontiguousarray(found).view(np.int64).min())


def device_memory() -> int:
    """The bytes of a device, of those of all processes the least; of a CPU those of its machine."""
    return _least((jax.local_devices()[0].memory_stats() or {}).get('bytes_limit') or cost.memory())


def by_first(function: Callable[..., T], *args: Any) -> T:
    """What the first process gets from the function, which it calls alone.

    Raises:
      AgreedError: in all processes, where the function raised an InputError. SystemExit: likewise; in the others also where it raised
        anything else.
    """
    result: Any = None
    raised: BaseException | None = None
    if first():
        try:
            result = function(*args)
        except BaseException as e:
            raised = e
    told, result = agreed((_told(raised), result))
    if told is not None and told[0] is not None:
        raise AgreedError(*told[0]) from None
    if raised is not None:
        raise raised
    if told is not None:
        raise SystemExit(told[1])
    return result


def _told(raised: BaseException | None) -> tuple[list[str] | None, Any] | None:
    """What the others hear of an error: (messages of an InputError, otherwise the exit status)."""
    if raised is None:
        return None
    if isinstance(raised, errors.InputError):
        return list(raised.args), None
    return None, raised.code if isinstance(raised, SystemExit) else 1


def alike(function: Callable[[], T]) -> T:
    """What the function gives, which all processes call, each for itself. Raises AgreedError in all if it raises InputError in any."""
    error = None
    try:
        result = function()
    except errors.InputError as e:
        error = e
    if anywhere(error is not None)[0]:
        raise AgreedError(*(error.args if error else ['another one of the processes cannot go on, and says why']))
    return result


def check_alike(what: str, value: Any) -> None:
    """Raises AgreedError, in all processes, unless all have the same; a value that JSON holds."""
    own = json.loads(json.dumps(value))
    if anywhere(agreed(own) != own)[0]:
        raise AgreedError(f'the processes differ in {what}: give all of them the same')
