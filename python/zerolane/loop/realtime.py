"""Threads that run when they are due: CPUs, priority, locked memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from zerolane import _native
from zerolane.errors import InvalidArgument

_ADVICE = {
    "cpus": "ask for CPUs that the process may use (taskset, cpuset)",
    "priority": (
        "allow it: a line '@realtime - rtprio 99' in /etc/security/limits.conf and the user in "
        "that group, or `sudo setcap cap_sys_nice+ep` on the interpreter; docker: "
        "--cap-add=SYS_NICE --ulimit rtprio=99; systemd: LimitRTPRIO=99"
    ),
    "lock_memory": (
        "allow it: a line '@realtime - memlock unlimited' in /etc/security/limits.conf and the "
        "user in that group, or CAP_IPC_LOCK; docker: --cap-add=IPC_LOCK --ulimit memlock=-1; "
        "systemd: LimitMEMLOCK=infinity"
    ),
}
_logger = logging.getLogger("zerolane.realtime")
_warned: set[str] = set()


@dataclass(frozen=True, slots=True)
class Realtime:
    """What became of the wishes. refused: the reason by option, empty where all was granted."""

    refused: Mapping[str, str]

    @property
    def granted(self) -> bool:
        return not self.refused


def realtime(
    *, cpus: Iterable[int] | None = None, priority: int | None = None, lock_memory: bool = False
) -> Realtime:
    """Make the calling thread a real-time one, as far as the process has the right to.

    cpus: the CPUs that it may run on. priority: 1 to 99 under SCHED_FIFO, where it runs before all
    ordinary threads, for as long as it likes (the system keeps 5 % of the time for others); threads
    that it starts later are ordinary again. lock_memory: no page of the process leaves memory from
    now on. The thread's stack is touched, so that it takes no page fault later.

    What is refused is logged once a process as a warning that says how to get the right, and
    returned; everything else is done. A `zl.Loop` takes the same options for its own thread.
    """
    numbers, level = checked(cpus, priority)
    return told(_native.make_realtime(numbers, level, lock_memory))


def checked(cpus: Iterable[int] | None, priority: int | None) -> tuple[list[int] | None, int]:
    """The options as the native side takes them; it checks the numbers."""
    try:
        numbers = None if cpus is None else [int(cpu) for cpu in cpus]
    except (TypeError, ValueError):
        raise InvalidArgument(
            f"choosing CPUs: cpus is {cpus!r}, expected numbers of CPUs; give a list such as "
            "[2, 3]",
            "cpus",
        ) from None
    fits = priority is None or (isinstance(priority, int) and 1 <= priority <= 99)
    if not fits:
        raise InvalidArgument(
            f"setting a real-time priority: it is {priority!r}, expected 1 to 99; start with 80, "
            "or leave it out",
            "priority",
        )
    if numbers is not None and (not numbers or max(map(abs, numbers)) > 2**30):
        raise InvalidArgument(
            f"choosing CPUs: cpus is {numbers!r}, expected one CPU or more; leave it out to use "
            "any",
            "cpus",
        )
    return numbers, priority or 0


def told(refused: list[tuple[str, str]]) -> Realtime:
    """Warns of what was refused, the first time in this process."""
    for option, reason in refused:
        if option not in _warned:
            _warned.add(option)
            _logger.warning(
                "making a thread real-time: %s was refused: %s; it goes on without; %s",
                option,
                reason,
                _ADVICE[option],
            )
    return Realtime(MappingProxyType(dict(refused)))
