"""A connection between a command and its server that a test disturbs, and the inventory on the server itself."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from bmhctl.api import Inventory
from bmhctl.domain.model import State
from bmhctl.usecases.doctor.doctor import doctor
from tests.conftest import Run
from tests.faults.in_process import call
from tests.faults.proxy import Plan, Proxy
from tests.processes import until


@dataclass
class ServerLink:
    """An inventory on a server, reached through a proxy (``url``) and directly (``direct``, ``lab``)."""

    proxy: Proxy
    url: str
    direct: str
    lab: Inventory
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def call(self, *args: str, plan: Plan | None = None) -> Run:
        if plan is not None:
            self.proxy.begin(plan)
        done = call("-i", self.url, *args)
        assert "Traceback" not in done.stderr
        assert not [word for word in ("rollback", "ignored", "canceling") if word in done.stderr], "talk of a library"
        self.lab.host("node1")
        if self.sessions() > 1:
            gc.collect()  # close a connection in a reference cycle; a separate process would have ended
        until(lambda: self.sessions() == 1)  # the sessions that were cut off have ended
        return done

    def sessions(self) -> int:
        """Return the number of our connections on the server, including this one."""
        asked = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'bmhctl'"
        (row,) = self.lab._context.store.database.execute(asked)
        return int(row[0] or 0)

    @property
    def state(self) -> State:
        return self.lab.host("node1").state

    def held(self) -> list[str]:
        return [held.reservation.id for held in self.lab.reservations()]

    def names(self) -> list[str]:
        return [host.name for host in self.lab.hosts()]

    def reserve(self) -> str:
        return self.lab.reserve("node1").reservation.id

    def bring(self, state: State) -> None:
        """Brings node1 to the state in which a verb starts."""
        for reservation in self.held():
            self.lab.release(reservation)
        if self.state is State.MAINTENANCE:
            self.lab.resume("node1")
        if self.state is State.TAINTED and state is not State.TAINTED:
            self.lab.reset("node1")
        if self.state is State.INITIAL and state is not State.INITIAL:
            self.lab.ready("node1")
        if self.state is State.AVAILABLE and state is State.INITIAL:
            self.bring_round()
        if self.state is State.AVAILABLE and state is State.TAINTED:
            self.lab.release(self.reserve())

    def bring_round(self) -> None:
        self.lab.release(self.reserve())
        self.lab.reset("node1")

    def in_order(self) -> list[str]:
        """Check with the doctor that a command without effect has left nothing behind."""
        return [each.message for each in doctor(self.lab._context).findings]
