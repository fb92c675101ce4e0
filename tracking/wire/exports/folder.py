"""A folder of exports: files that are whole, and an index of them by which a run goes on."""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from tracking.domain.exports import ExportOptions

# What is there already, one line for each file: a run that was cut goes on behind it.
INDEX: Final = "exports.jsonl"


class Written(Struct, frozen=True):
    """A line of INDEX."""

    file: str
    booking_id: UUID
    epoch: str
    version: int
    judged_at: datetime | None
    options: ExportOptions
    waypoints: int
    bytes: int


class Folder:
    """Where the files go, and what is in it."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._index = path / INDEX
        lines = self._index.read_bytes().splitlines() if self._index.exists() else []
        # The last line may have been cut: its file is written again.
        whole = [line for line in lines if line.endswith(b"}")]
        self._written = {
            each.file: each for each in (msgspec.json.decode(line, type=Written) for line in whole)
        }
        if len(whole) < len(lines):
            self._index.write_bytes(b"".join(line + b"\n" for line in whole))

    def has(self, wanted: Written) -> bool:
        """The same version, with the same options, and as long as it was; whatever `bytes` says."""
        found, path = self._written.get(wanted.file), self._path / wanted.file
        if found is None or structs.replace(wanted, bytes=found.bytes) != found:
            return False
        return path.exists() and path.stat().st_size == found.bytes

    def write(self, file: str, pieces: Iterator[bytes]) -> int:
        """Its size; nothing is there under its name before it is whole."""
        begun = self._path / f".{file}.{os.getpid()}"
        try:
            with begun.open("wb") as out:
                out.writelines(pieces)
                size = out.tell()
            begun.replace(self._path / file)
        finally:
            begun.unlink(missing_ok=True)
        return size

    def remember(self, written: Written) -> None:
        with self._index.open("ab") as out:
            out.write(msgspec.json.encode(written) + b"\n")
