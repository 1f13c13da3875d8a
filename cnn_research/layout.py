"""How many devices serve seeds, batches and parameters (imports no jax, for command lines ask this before anything starts)."""

import contextlib
import re
from typing import NamedTuple

from cnn_research import errors


class Layout(NamedTuple):
    """Devices along each axis of a mesh, see `mesh.py`."""

    seed: int = 1
    data: int = 1
    model: int = 1


class Wish(NamedTuple):
    """Devices asked for: for every batch (None: those that seeds leave over), and for the parameters of large layers.

    every: whether none may stay idle, as where they belong to several processes, each of which must have a part.
    """

    data: int | None = None
    model: int = 1
    every: bool = False

    def on(self, devices: int, seeds: int, batch_size: int) -> Layout:
        """How so many devices serve seeds that train together: as many side by side as there are devices for.

        Raises:
          InputError: more devices asked for than there are, a batch that cannot be dealt out evenly, or one that cannot be dealt out to
            every device where none may stay idle.
        """
        data, model = self.data or 1, self.model
        if data * model > devices:
            text = f'--data_parallel={data} times --model_parallel={model} takes {data * model} devices'
            raise errors.InputError(f'{text}, here {"is" if devices == 1 else "are"} {devices}')
        if batch_size % data:
            raise errors.InputError(f'a batch of {batch_size} images cannot be dealt out evenly to {data} devices: change --batch_size')
        for seed in (n for n in range(min(seeds, devices // (data * model)), 0, -1) if seeds % n == 0):
            if self.data is None:
                data = max(n for n in range(1, devices // (seed * model) + 1) if batch_size % n == 0)
            if seed * data * model == devices or not self.every:
                return Layout(seed, data, model)
        text = f'all {devices} devices of the processes must take part, and batches of {batch_size} images'
        raise errors.InputError(f'{text} cannot be dealt out evenly to them: change --batch_size, --data_parallel or --model_parallel')

    def places(self, devices: int) -> int:
        """For how many seeds side by side there are devices."""
        return max(1, devices // ((self.data or 1) * self.model))

    def part(self, devices: int, seeds: int, each: int, batch_size: int) -> int:
        """How many of the seeds train together, if `each` can in a place: with more than there are places for, as many in every one.

        Raises:
          InputError: not even one can, see `on`.
        """
        places = self.places(devices)
        together = min(seeds, places * each)
        for number in range(together // places * places if together > places else together, 1, -1):
            with contextlib.suppress(errors.InputError):
                if number <= self.on(devices, number, batch_size).seed * each:  # where none may stay idle, batches may take places
                    return number
        self.on(devices, 1, batch_size)
        return 1


def address(where: str) -> tuple[str, int, int] | None:
    """HOST:PORT,PROCESSES,INDEX as (address, processes, index); None for 'auto'. Raises InputError."""
    if where == 'auto':
        return None
    found = re.fullmatch(r'([^,\s]+:[0-9]{1,5}),([0-9]{1,5}),([0-9]{1,5})', where)
    if not found or int(found[3]) >= int(found[2]) or not 0 < int(found[1].rpartition(':')[2]) < 2**16:
        text = 'auto, or HOST:PORT,PROCESSES,INDEX of the first process, their number, and this one, from 0'
        raise errors.InputError(f'distributed must be {text}, got {errors.shown(where)}')
    return found[1], int(found[2]), int(found[3])
