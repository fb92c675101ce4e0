"""How the relay does, for readiness. IOLoop thread."""

import time
from typing import Final

from workers.monitoring.readiness import Check
from workers.relay.receiving import RelayReceiver
from workers.relay.sending import RelaySender

# Longer than the restart of a process that stores.
SILENT_LIMIT_S: Final = 10.0
POLL_LIMIT_S: Final = 60.0


def sender_checks(sender: RelaySender) -> dict[str, Check]:
    """A remark only: nothing here depends on who watches."""

    def relay() -> str:
        since = sender.failing_since
        if since is None:
            return "ok"
        return f"ok, Kafka has not taken what is published for {time.monotonic() - since:.0f} s"

    return {"relay": relay}


def receiver_checks(receiver: RelayReceiver) -> dict[str, Check]:
    """Viewers of a process that hears of nothing see old positions."""

    def relay() -> str:
        stands = time.monotonic() - receiver.last_poll
        if stands > POLL_LIMIT_S:
            return f"the relay has not been read for {stands:.0f} s"
        if not receiver.is_connected:
            return "no broker answers, or no process with --role ingest has made the topic yet"
        return "ok"

    def ingest() -> str:
        silence = receiver.processes.silence_s()
        if silence > SILENT_LIMIT_S:
            return f"no process with --role ingest was heard for {silence:.0f} s"
        return "ok"

    return {"relay": relay, "ingest": ingest}
