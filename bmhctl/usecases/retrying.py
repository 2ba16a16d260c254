"""What is done again when another transaction got in the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from bmhctl.stores.faults import FASTER, ConflictError
from bmhctl.usecases.context import Context

TRIES = 6
"""How often something is tried in all."""

_PAUSE = 0.02  # seconds at most before the second try; each further pause may be twice as long

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def retried(
    act: Callable[Concatenate[Context, _Arguments], _Result],
) -> Callable[Concatenate[Context, _Arguments], _Result]:
    """Does again what a :class:`ConflictError` undid: a deadlock, a failed serialisation, the same request at once.

    For what commits once, at its end: then nothing of a try that failed is left.
    """

    @wraps(act)
    def again(ctx: Context, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        for number in range(TRIES - 1):
            try:
                return act(ctx, *args, **kwargs)
            except ConflictError:
                import random

                time.sleep(random.uniform(0, _PAUSE * 2**number))
        try:
            return act(ctx, *args, **kwargs)
        except ConflictError as error:
            error.message = error.message.replace(FASTER, f"{FASTER}, {TRIES} times in a row", 1)
            error.hint = "try again: what was not told as done was not done"
            raise

    return again
