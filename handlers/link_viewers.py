"""Who looks through which share link, in this process. IOLoop thread only."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID

from tracking.wire import close_codes
from tracking.wire.close_codes import CloseCode


class LinkViewer(Protocol):
    """One open socket of a link."""

    share_id: UUID

    def close(self, code: CloseCode) -> None:
        """Idempotent; never raises. It leaves."""

    def renew(self, expires_at: datetime) -> None:
        """The link ends then; never raises."""


class LinkViewers:
    """By link; memory follows those who are here."""

    def __init__(self) -> None:
        self._viewers: defaultdict[UUID, set[LinkViewer]] = defaultdict(set)

    def add(self, viewer: LinkViewer) -> None:
        self._viewers[viewer.share_id].add(viewer)

    def remove(self, viewer: LinkViewer) -> None:
        """Idempotent."""
        viewers = self._viewers.get(viewer.share_id)
        if viewers is not None:
            viewers.discard(viewer)
            if not viewers:
                del self._viewers[viewer.share_id]

    def count(self, share_id: UUID) -> int:
        """Those of other processes are not known here."""
        return len(self._viewers.get(share_id, ()))

    def share_ids(self) -> list[UUID]:
        """Links through which somebody looks."""
        return list(self._viewers)

    def checked(self, asked: Iterable[UUID], still_open: Mapping[UUID, datetime]) -> None:
        """Of the links that were asked about these are open, until then; the others are over."""
        for share_id in asked:
            expires_at = still_open.get(share_id)
            if expires_at is None:
                self.close(share_id, close_codes.NOT_FOUND)
                continue
            for viewer in list(self._viewers.get(share_id, ())):
                viewer.renew(expires_at)

    def close(self, share_id: UUID, code: CloseCode) -> None:
        """All of a link's viewers."""
        for viewer in list(self._viewers.get(share_id, ())):
            viewer.close(code)
