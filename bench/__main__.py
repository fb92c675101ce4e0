"""`python -m bench [NAME ...] [--write FILE]`: tables to standard output."""

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import (
    backlog,
    exports,
    fanout,
    fleet,
    group,
    growth,
    latency,
    pages,
    relay,
    rolling,
    store,
    storm,
)
from bench.report import circumstances
from tests.running import NEEDED

BENCHES: dict[str, Callable[[dict[str, str]], str]] = {
    "store": store.run,
    "growth": growth.run,
    "backlog": backlog.run,
    "latency": latency.run,
    "fanout": fanout.run,
    "exports": exports.run,
    "fleet": fleet.run,
    "relay": relay.run,
    "group": group.run,
    "pages": pages.run,
    "rolling": rolling.run,
    "storm": storm.run,
}


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the service.")
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="default: all")
    parser.add_argument("--part", dest="parts", action="append", choices=list(fanout.PARTS),
                        help="of fanout; default: all")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=10.0,
                        help="of pages: how long its memory is watched; default: 10")  # fmt: skip
    parser.add_argument("--write", type=Path, help="append the tables to this file")
    arguments = parser.parse_args()
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        print(f"{', '.join(missing)} not set: use `make bench`", file=sys.stderr)
        return 2
    environ = {name: os.environ[name] for name in NEEDED}
    if arguments.parts:
        BENCHES["fanout"] = partial(fanout.run, parts=arguments.parts)
    BENCHES["pages"] = partial(pages.run, minutes=arguments.minutes)
    for name in arguments.names or BENCHES:
        text = f"## {name}\n\n{circumstances(environ)}\n\n{BENCHES[name](environ)}\n"
        print(text)
        if arguments.write:
            with arguments.write.open("a") as out:
                out.write(f"\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
