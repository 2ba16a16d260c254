"""What the last import declared for each host, so that the next import recognises values that were set here since."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from bmhctl.domain.model import PropertyValue
from bmhctl.stores.database import Database
from bmhctl.stores.hosts import in_parts
from bmhctl.stores.rows import to_json
from bmhctl.support.values import Frozen

_KEY = "'imported/' || hosts.id"
_SAVE = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_FORGET = f"DELETE FROM meta WHERE key = (SELECT {_KEY} FROM hosts WHERE hosts.name = ?)"


class Imported(Frozen):
    """The imported values of the hosts."""

    _database: Database

    def of(self, names: Iterable[str]) -> dict[str, dict[str, PropertyValue]]:
        """Return the saved values of the hosts with these names, by name."""
        found: dict[str, dict[str, PropertyValue]] = {}
        for some in in_parts(list(dict.fromkeys(names))):
            rows = self._database.execute(
                f"SELECT hosts.name, meta.value FROM hosts JOIN meta ON meta.key = {_KEY} "
                f"WHERE hosts.name IN ({', '.join('?' * len(some))})",
                some,
            )
            found.update((str(name), json.loads(str(value))) for name, value in rows)
        return found

    def save(self, values: Mapping[str, Mapping[str, PropertyValue] | None]) -> None:
        """Save the values that an import declared, by host name, in place of the earlier ones; None removes them."""
        for some in in_parts(list(values)):
            keys = self._database.execute(
                f"SELECT {_KEY}, hosts.name FROM hosts WHERE hosts.name IN ({', '.join('?' * len(some))})", some
            )
            kept = [(key, said) for key, name in keys if (said := values[str(name)]) is not None]
            self._database.enqueue(_SAVE, *((key, to_json(said)) for key, said in kept))
        for name in self.of(name for name, said in values.items() if said is None):
            self._database.execute(_FORGET, [name])
