"""Dead letters: list them, look at one, send them again after a fix. `--help` explains."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator

from kafka.errors import KafkaError

from tracking.domain.events import FIRST_TIME
from tracking.domain.times import moment, time_argument
from tracking.errors import SettingsError
from tracking.settings import KafkaSettings
from workers.erasures import Erasure, Erasures, kept_erasures
from workers.kafka.clients import explained
from workers.kafka.dead_letter_topic import (
    KeptDeadLetter,
    kept_dead_letters,
    readable_headers,
    resend,
)
from workers.kafka.whole_topic import NoTopic

EXIT_FAILED = 1
EXIT_USAGE = 2


def main() -> int:
    """The exit status: 0 done, 1 Kafka or nothing found, 2 wrong usage or settings."""
    arguments = _parser().parse_args()
    try:
        settings = KafkaSettings.from_environment()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    try:
        with explained():
            return int(arguments.command(settings, arguments))
    except (KafkaError, OSError) as error:
        print(f"Kafka: {error}", file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="The events that could not be processed, which <prefix>.dead-letter keeps.",
        epilog="COMMAND --help tells its options. Reads the KAFKA_* variables that server.py reads."
        " Exit status: 0 done, 1 Kafka failed or an id is not there, 2 wrong usage or settings.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser(
        "list", help="print a line for each dead letter, then how many have which reason"
    )
    listing.set_defaults(command=_list)
    show = commands.add_parser("show", help="print one dead letter: headers, key, value")
    show.set_defaults(command=_show)
    show.add_argument("id", help="PARTITION:OFFSET as `list` prints it")
    again = commands.add_parser(
        "resend", help="after a fix: give them to this service again, and to no other"
    )
    again.set_defaults(command=_resend)
    again.add_argument("id", nargs="*", help="PARTITION:OFFSET as `list` prints it; or give --all")
    again.add_argument("--all", action="store_true", help="all that the filters below leave")
    again.add_argument("--dry-run", action="store_true", help="only say what would be sent")
    for each in (listing, again):
        each.add_argument("--reason", default="", metavar="TEXT", help="whose reason contains TEXT")
        each.add_argument(
            "--topic", default="", metavar="NAME", help="which came from this topic (with prefix)"
        )
        each.add_argument(
            "--since",
            type=time_argument,
            metavar="TIME",
            help="written to the dead-letter topic since then: 2026-11-24T02:00Z",
        )
    return parser


def _chosen(settings: KafkaSettings, arguments: argparse.Namespace) -> Iterator[KeptDeadLetter]:
    for letter in kept_dead_letters(settings, arguments.since):
        if arguments.reason in letter.reason and (
            not arguments.topic or letter.source.startswith(arguments.topic + "/")
        ):
            yield letter


def _list(settings: KafkaSettings, arguments: argparse.Namespace) -> int:
    reasons: Counter[str] = Counter()
    for letter in _chosen(settings, arguments):
        size = len(letter.value or b"")
        note = "" if letter.resendable else " (cut)"
        print(f"{letter.id:>10}  {letter.time}  {letter.source}  {size} B{note}  {letter.reason}")
        reasons[letter.reason] += 1
    for reason, number in reasons.most_common():
        print(f"{number:>10}  {reason}", file=sys.stderr)
    print(f"{reasons.total():>10}  in all", file=sys.stderr)
    return 0


def _show(settings: KafkaSettings, arguments: argparse.Namespace) -> int:
    for letter in kept_dead_letters(settings):
        if letter.id == arguments.id:
            for name, value in readable_headers(letter):
                print(f"{name}: {value}")
            print(f"key: {letter.key!r}\n\n{_readable(letter.value)}")
            return 0
    print(f"no letter {arguments.id}: `list` prints their ids", file=sys.stderr)
    return EXIT_FAILED


def _readable(value: bytes | None) -> str:
    if value is None:
        return "no value (tombstone)"
    try:
        return json.dumps(json.loads(value), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return repr(value)


def _resend(settings: KafkaSettings, arguments: argparse.Namespace) -> int:
    if not (arguments.id or arguments.all):
        print("which ones? Give ids, or --all (with --reason, --topic, --since)", file=sys.stderr)
        return EXIT_USAGE
    found = [x for x in _chosen(settings, arguments) if not arguments.id or x.id in arguments.id]
    erasures = Erasures(_kept_erasures(settings))
    erased = {letter.id for letter in found if _is_erased(letter, erasures)}
    ready = [letter for letter in found if letter.resendable and letter.id not in erased]
    missing = set(arguments.id) - {letter.id for letter in found}
    for each in sorted(missing):
        print(f"no letter {each}", file=sys.stderr)
    cut = sum(not letter.resendable for letter in found)
    if cut:
        print(f"{cut} were cut and stay: too large to keep", file=sys.stderr)
    if erased:
        print(f"{len(erased)} are of somebody who was erased, and stay", file=sys.stderr)
    if arguments.dry_run:
        print(f"would send {len(ready)} letters again")
    else:
        done = resend(
            settings, ready, lambda n: print(f"{n} of {len(ready)} sent", file=sys.stderr)
        )
        print(f"sent {done} letters again")
    return EXIT_FAILED if missing else 0


def _kept_erasures(settings: KafkaSettings) -> list[Erasure]:
    try:
        return kept_erasures(settings)
    except NoTopic:
        return []  # it is made when the service first sends something


def _is_erased(letter: KeptDeadLetter, erasures: Erasures) -> bool:
    written_at = moment(letter.time) or FIRST_TIME
    return erasures.concern(b" ".join((letter.key or b"", letter.value or b"")), written_at)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # `list | head`
        sys.exit(0)
