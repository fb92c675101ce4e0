"""Starts this project's programs by forking: `python -m tests.starter FD`, see tests/programs.py.

Has imported what they import, and has no thread. Each request on the socket FD starts one or asks
for an exit status; the end of the socket ends this process, not the programs.
"""

import gc
import json
import os
import random
import resource
import runpy
import socket
import sys
from typing import Any

import after_restore  # noqa: F401 - imported for those who are forked
import dead_letters  # noqa: F401
import exports  # noqa: F401
import server  # noqa: F401
import verdicts  # noqa: F401

REQUEST_BYTES = 1 << 20


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Answers requests; in a forked process, returns what that has to become."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, 3)
        if not message:
            return None
        request: dict[str, Any] = json.loads(message)
        if "reap" in request:
            ended, status = os.waitpid(request["reap"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        else:
            answer = os.fork()
            if answer == 0:
                become(control, request, descriptors)
                return request
        for each in descriptors:
            os.close(each)
        control.send(json.dumps(answer).encode())


def become(control: socket.socket, request: dict[str, Any], descriptors: list[int]) -> None:
    """What is inherited by an exec: descriptors and their limit, environment, arguments."""
    control.close()
    for number, each in enumerate(descriptors):
        os.dup2(each, number)
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(request["limit"]))
    os.environ.clear()
    os.environ.update(request["environ"])
    random.seed()
    sys.argv = request["arguments"]


def main() -> None:
    # A program that ends would look for garbage in all that was imported: 0.7 s of CPU for each.
    gc.collect()
    gc.freeze()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        return
    first, *rest = request["arguments"]
    if first == "-m":
        module, *sys.argv[1:] = rest
        sys.modules.pop(module, None)  # or runpy would warn
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    main()
