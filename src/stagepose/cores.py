"""How many cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path


def available_cores() -> int:
    """Physical cores that this process may use: two hyperthreads of one core count once."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = {_siblings(cpu) for cpu in cpus}
    return max(1, math.ceil(min(len(siblings), _cgroup_cpus())))


def _siblings(cpu: int) -> str:
    """The same text for hyperthreads of one core; where the system does not tell, every CPU is a core."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
    except OSError:
        return str(cpu)


def _cgroup_cpus() -> float:
    """CPUs that a container's quota allows; infinity without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max 100000", or no cgroup v2
        return math.inf
