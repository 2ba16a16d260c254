"""A task with which a BMC carries out an action after its answer (202): whether it failed, and why.

A task is read only until the effect of the action is seen. The end of the task is not awaited, because its success does
not show that the action has had its effect.
"""

from __future__ import annotations

from collections.abc import Callable

from bmhctl.probes.http_connection import Reply
from bmhctl.probes.redfish_reply import Json, items, json_object, message_of, one_line, severity_of, text_of

_FAILED = ("Exception", "Killed", "Cancelled", "Failed", "CompletedWithErrors", "UserIntervention")
"""States of a task, or of a job (``JobState``), in which it has ended."""

_MOST_MESSAGES = 3
_LONGEST = 40  # the most characters of a state in a message


class Task:
    """A task of a BMC. ``fetch`` reads it at ``paths``: the monitor of the task, and the task itself.

    ``fetch`` returns None when the BMC can't be read.
    """

    def __init__(self, paths: tuple[str, ...], fetch: Callable[[str], Reply | None]) -> None:
        self.state = ""
        """The state that was read last, in the words of the BMC; "" if none was."""
        self._paths = paths
        self._fetch = fetch

    def failure(self) -> str | None:
        """Return why the task failed, in the words of the BMC; None if it has not failed, or the BMC does not say."""
        for path in self._paths:
            reply = self._fetch(path)
            if reply is None:
                continue
            if reply.status >= 400:
                if reply.status in _GONE_OR_BUSY:
                    continue
                return message_of(reply) or f"its task failed ({reply.status})"
            task = json_object(reply.body) or {}
            state = _state(task)
            self.state = one_line(state)[:_LONGEST] if isinstance(state, str) else self.state
            found = _failure(task)
            if found is not None:
                return found
        return None


_GONE_OR_BUSY = frozenset({401, 403, 404, 405, 408, 410, 425, 429, 500, 502, 503, 504})
"""Statuses that say nothing about a task: a BMC removes its monitor when it ends, or restarts and is busy."""


def _state(task: Json) -> object:
    return task.get("TaskState", task.get("JobState"))


def _failure(task: Json) -> str | None:
    """Return why a task or job failed; None if it is running or succeeded, or if this is not a task."""
    state = _state(task)
    is_critical = state == "Completed" and task.get("TaskStatus", task.get("JobStatus")) == "Critical"
    if not isinstance(state, str) or not (state in _FAILED or is_critical):
        return None
    reasons = _reasons(task.get("Messages")) or _reasons([task])
    return "; ".join(reasons) or f"its task ended as {one_line(state)}"


def _reasons(messages: object) -> list[str]:
    """Return the texts of the messages with a severity above OK, or the last message if there are none."""
    known = [each for each in items(messages) if isinstance(each, dict)]
    bad = [each for each in known if severity_of(each) in ("Critical", "Warning")]
    texts = [one_line(text) for text in map(text_of, bad or known[-1:]) if text]
    return list(dict.fromkeys(texts))[-_MOST_MESSAGES:]
