"""One message to thousands of viewers, beside the bare loop and the usual libraries."""

import resource
import sys
from collections.abc import Callable, Collection
from typing import Final

from bench.fanout import load, peers_table, sizes

PARTS: Final[dict[str, Callable[[dict[str, str]], str]]] = {
    "cost": peers_table.cost,
    "idle": peers_table.idle,
    "backlog": load.backlog,
    "tried": load.tried,
    "stalled": load.stalled,
    "rooms": sizes.rooms,
    "latency": sizes.latency,
}


def run(environ: dict[str, str], parts: Collection[str] = tuple(PARTS)) -> str:
    """The tables; some ten minutes."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # servers and viewers inherit it
    tables = []
    for name in parts:
        print(f"bench: fanout, {name}", file=sys.stderr)
        tables.append(f"### {name}\n\n{PARTS[name](environ)}")
        print(tables[-1], file=sys.stderr)  # a later part may fail
    return "\n\n".join(tables)
