"""What a daemon has told about the group: the sum of its picture.changed notices. Pure.

A picture comes in parts, and a daemon begins anew when the world has changed: half of a new one is shown to nobody.

    reset ──► world, machines, processes ──► whole: all that is configured has its row, or picture.begun has come
"""

from __future__ import annotations

from typing import Any

from .report import Machine, Process, read_machines, read_processes, read_types

OVERDUE_S = 10.0  # one that is not whole so long after its last part is shown as it is


class Picture:
    """`apply` raises ValueError for a notice that cannot be read."""

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        self.machines: dict[str, Machine] = {}
        self._types: dict[str, str] = {}

    def apply(self, fields: dict[str, Any]) -> list[str]:
        """The keys of the processes that the notice is about."""
        self._types.update(read_types(fields.get("world", [])))
        for machine in read_machines(fields.get("machines", [])):
            self.machines[machine.ip] = machine
        touched = []
        for process in read_processes(fields.get("processes", []), self._types):
            self.processes[process.key] = process
            touched.append(process.key)
        for word in map(str, fields.get("gone", [])):
            self.machines.pop(word, None)
            self._types.pop(word, None)
            if self.processes.pop(word, None) is not None:
                touched.append(word)
        return touched

    def is_whole(self) -> bool:
        return bool(self._types) and len(self.processes) >= len(self._types)


class Viewer:
    """The newest whole picture, and the one that is on its way. `trouble` is why nothing newer can be told."""

    def __init__(self) -> None:
        self.picture = Picture()
        self.trouble = ""
        self._coming: Picture | None = None
        self._heard = 0.0

    def apply(self, fields: dict[str, Any], now: float) -> list[str]:
        """The keys of what may be another now. Raises ValueError."""
        self.trouble = str(fields.get("trouble", ""))
        if self.trouble:
            return []
        if fields.get("reset"):
            self._coming = Picture()
        if self._coming is None:
            return self.picture.apply(fields)
        self._heard = now
        self._coming.apply(fields)
        return self.show() if self._coming.is_whole() else []

    def look(self, now: float) -> list[str]:
        """One that is overdue is shown: of an empty one nothing says that it is whole."""
        return self.show() if self._coming and now - self._heard > OVERDUE_S else []

    def show(self) -> list[str]:
        """The one on its way takes the place of the other."""
        if self._coming is None:
            return []
        before, self.picture, self._coming = self.picture, self._coming, None
        return list({**before.processes, **self.picture.processes})
