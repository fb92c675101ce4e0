"""Drives trips through Kafka, as the booking and runner services would publish them.

`python -m dev.simulator --help`. A seed gives the same trips every time.
"""

import argparse
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from dev.events import Event, Form, LocationUpdate, Record, encoder, nanoseconds
from dev.faults import Fault
from dev.gpx import GpxError, read_gpx
from dev.trip_events import events_in
from dev.trips import Plan

PROGRESS_S: Final = 2.0
# Above this rate, batching costs nobody a visible delay and saves half the CPU.
BATCHING_RATE: Final = 500.0
# Events that are due within so long are produced without sleeping.
SLACK_S: Final = 0.0005

Send = Callable[[Record], None]


def main() -> int:
    """The exit status: 0 when done or told to stop, 1 without Kafka, 2 for wrong arguments."""
    arguments = _parser().parse_args()
    try:
        plan = _plan(arguments)
    except (GpxError, ValueError) as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 2
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    events = events_in(plan, again=not arguments.once)
    if arguments.owner is not None:
        events = _owned(events, str(arguments.owner))
    if arguments.duration is not None:
        end_ns = plan.start_ns + round(arguments.duration * 1e9)
        events = takewhile(lambda event: event.due_ns <= end_ns, events)
    try:
        with _sender(arguments) as send:
            _drive(events, encoder(arguments.form, arguments.prefix), send, stop, arguments.fast)
    except KafkaError as error:
        print(f"simulator: Kafka at {arguments.brokers}: {error!r}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dev.simulator",
        description="Drive trips through Kafka as the booking and runner services publish them:"
        " from booking.requested to booking.completed, one trip after another for each runner,"
        " until Ctrl-C.",
        epilog="Exit status: 0 done or told to stop, 1 Kafka failed, 2 wrong arguments.",
    )
    _add_trips(parser.add_argument_group("the trips").add_argument)
    _add_end(parser.add_argument_group("when").add_argument)
    _add_output(parser.add_argument_group("where the events go").add_argument)
    return parser


def _add_trips(add: Callable[..., object]) -> None:
    add("--trips", type=_positive(int), default=5, metavar="N", help="runners at a time [5]")
    add("--rate", type=_positive(float), metavar="N", help="updates a second of all runners"
        " together [one every five seconds from each]")  # fmt: skip
    add("--seed", type=int, metavar="N", help="the same seed gives the same trips [a new one]")
    add("--speed", type=_positive(float), default=1.0, metavar="FACTOR",
        help="how fast they drive, times the usual [1]")  # fmt: skip
    add("--rush-hours", action="store_true", help="slower from 7 to 9 and from 17 to 19, in the"
        " cities' time")  # fmt: skip
    add("--gpx", type=Path, metavar="FILE", help="every trip follows this GPX track, in its own"
        " times where they are possible, or a point each interval of --rate")  # fmt: skip
    add("--faults", type=_faults, default=frozenset(), metavar="LIST", help="what goes wrong,"
        " separated by commas, or all: tunnel (updates come late), duplicates (events come twice),"
        " jumps (positions elsewhere), skew (a phone's clock is wrong) [none]")  # fmt: skip
    add("--unknown-booking", type=float, default=0.0, metavar="SHARE",
        help="share of the phones that do not know their booking, 0 to 1 [0]")  # fmt: skip
    add("--owner", type=UUID, metavar="ID", help="user id of the owner of every booking"
        " [one for each]")  # fmt: skip


def _add_end(add: Callable[..., object]) -> None:
    add("--start", metavar="TIME", help="of the first request, RFC 3339; what lies in the past is"
        " produced at once [now]")  # fmt: skip
    add("--duration", type=_positive(float), metavar="SECONDS", help="of simulated time [no end]")
    add("--once", action="store_true", help="one trip for each runner, then end")
    add("--fast", action="store_true", help="produce as fast as possible, not when it is due")


def _add_output(add: Callable[..., object]) -> None:
    add("--output", choices=("kafka", "jsonl"), default="kafka",
        help="jsonl prints the values, one a line [kafka]")  # fmt: skip
    add("--brokers", default=os.environ.get("KAFKA_BROKERS", "localhost:9092"), metavar="LIST",
        help="HOST:PORT, separated by commas [KAFKA_BROKERS, or localhost:9092]")  # fmt: skip
    add("--prefix", default=os.environ.get("KAFKA_TOPIC_PREFIX", "kilat-pet-runner"),
        metavar="TEXT", help="of the topics [KAFKA_TOPIC_PREFIX, or kilat-pet-runner]")  # fmt: skip
    add("--form", type=Form, choices=list(Form), default=Form.STRUCTURED,
        help="structured: CloudEvents envelopes on two topics; binary: the envelope in headers;"
        " bare: a topic for each type, no envelope [structured]")  # fmt: skip


def _positive(number: type[int] | type[float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not (value := number(text)) > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above zero")
        return value

    return parse


def _faults(text: str) -> frozenset[Fault]:
    names = [str(fault) for fault in Fault] if text == "all" else text.split(",")
    try:
        return frozenset(Fault(name) for name in names)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; known: {', '.join(Fault)}, all") from None


def _plan(arguments: argparse.Namespace) -> Plan:
    seed = secrets.randbelow(1 << 32) if arguments.seed is None else arguments.seed
    print(f"simulator: seed {seed}", file=sys.stderr)
    return Plan(
        seed=seed,
        runners=arguments.trips,
        interval_s=arguments.trips / arguments.rate if arguments.rate else 5.0,
        start_ns=nanoseconds(arguments.start) if arguments.start else time.time_ns(),
        speed=arguments.speed,
        rush_hours=arguments.rush_hours,
        unknown_booking=arguments.unknown_booking,
        faults=arguments.faults,
        gpx=tuple(read_gpx(arguments.gpx)) if arguments.gpx else (),
        gpx_own_times=arguments.rate is None,
    )


def _owned(events: Iterator[Event], owner_id: str) -> Iterator[Event]:
    """The same events as if all bookings were this owner's; phones don't know owners."""
    for event in events:
        data = event.data
        if not isinstance(data, LocationUpdate):
            data = msgspec.structs.replace(data, owner_id=owner_id)
        yield event._replace(data=data)


@contextmanager
def _sender(arguments: argparse.Namespace) -> Iterator[Send]:
    """A function that takes records; at the end, all of them are acknowledged."""
    if arguments.output == "jsonl":
        yield lambda record: print(record.value.decode())
        return
    is_fast = arguments.fast or (arguments.rate or 0) > BATCHING_RATE
    batching = {"linger_ms": 20, "batch_size": 262_144} if is_fast else {}
    producer = KafkaProducer(bootstrap_servers=arguments.brokers.split(","), **batching)
    failures: list[Exception] = []
    try:
        yield lambda record: _send(producer, record, failures)
        producer.flush(timeout=30)
    finally:
        producer.close(timeout=5)
    if failures:
        raise failures[0]


def _send(producer: KafkaProducer, record: Record, failures: list[Exception]) -> None:
    topic, key, value, headers = record
    future = producer.send(topic, key=key, value=value, headers=headers)
    future.add_errback(failures.append)


def _drive(
    events: Iterator[Event],
    encode: Callable[[Event], Record],
    send: Send,
    stop: threading.Event,
    fast: bool,
) -> None:
    """Each event when it is due; a start in the past is caught up with at once."""
    count, next_word = 0, time.monotonic() + PROGRESS_S
    for event in events:
        wait_s = 0.0 if fast else (event.due_ns - time.time_ns()) / 1e9
        if (wait_s > SLACK_S and stop.wait(wait_s)) or stop.is_set():
            break
        send(encode(event))
        count += 1
        if time.monotonic() >= next_word:
            next_word += PROGRESS_S
            print(f"simulator: {count} events, {event.time[:19]}", file=sys.stderr)
    print(f"simulator: {count} events produced", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
