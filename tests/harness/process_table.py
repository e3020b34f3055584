"""What runs on this machine, as `ps` tells."""

import subprocess


def children(parent: int, part: str) -> set[int]:
    """The process's children whose name or command line has this part."""
    # Without -ww, ps cuts lines at $COLUMNS, which pytest-xdist sets.
    rows = subprocess.run(["ps", "-axwwo", "pid=,ppid=,comm=,args="], capture_output=True, text=True, check=True).stdout
    found = (line.split(maxsplit=2) for line in rows.splitlines())
    return {int(pid) for pid, its, *command in found if int(its) == parent and part in "".join(command)}


def is_alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits for its parent does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")
