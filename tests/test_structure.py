"""How the code is laid out: who imports whom, how long things are, where their tests are."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.running import CHECKOUT

# Library -> where it may be imported, besides server.py.
LIBRARIES = {
    "sqlalchemy": ("tracking/store/",),
    "psycopg2": ("tracking/store/",),
    "kafka": ("workers/",),
    "confluent_kafka": ("workers/relay/",),
    "opentelemetry": ("workers/tracing.py",),
    "tornado": ("handlers/", "workers/", "roles/"),
}
# For the annotation of an engine that is only passed on.
TYPE_ONLY = ("handlers/services.py", "workers/", "roles/")
PACKAGES = {
    "tracking": ("handlers", "workers", "roles", "server"),
    "handlers": ("workers", "roles", "server"),
    "workers": ("handlers", "roles", "server"),
    "roles": ("server",),
}
# What the packages of `tracking` may import of each other.
INSIDE = {
    "domain": {"errors"},
    "wire": {"domain", "errors"},
    "live": {"wire", "domain", "errors", "metrics", "settings", "logs"},
    "store": {"domain", "errors", "metrics", "settings", "logs"},
}
# Still to be mended: (module, what it imports).
IMPORTS_TO_MEND: set[tuple[str, str]] = set()

FILE_LINES, FUNCTION_LINES = 250, 40
# Still to be split.
FILES_TO_SPLIT: set[str] = set()
FUNCTIONS_TO_SPLIT: set[str] = set()

# A module's tests are in tests/test_<package>_<module>.py, or in tests/test_<module>.py if no other
# module has that name. Packages with one entrance are tested through it:
ENTRANCES = {
    "tracking/store/erasing/": "test_erasure",
    "tracking/store/ingest/": "test_store_ingest",  # store_batch: one transaction
    "tracking/store/models/": "test_schema",  # the models are what the migrations make
    "tracking/wire/exports/": "test_exports",  # each format beside the others
}
# ... and so are modules that only do something together with another:
TESTED_BY = {
    "handlers/api/document.py": "test_openapi",
    "handlers/websocket/admission.py": "test_gates",
    "handlers/websocket/fleet_stream.py": "test_fleet",
    "handlers/websocket/fleet_viewer.py": "test_fleet",
    "handlers/websocket/replay_admission.py": "test_replaying",
    "handlers/websocket/replay_viewer.py": "test_replaying",
    "handlers/websocket/socket_handler.py": "test_handshake",
    "handlers/websocket/talking_viewer.py": "test_protocol_viewer",
    "tracking/domain/decoding.py": "test_decoding",
    "tracking/domain/envelopes.py": "test_decoding",
    "tracking/domain/events.py": "test_decoding",
    "tracking/domain/freshness.py": "test_room",
    "tracking/domain/points.py": "test_columns",
    "tracking/domain/payloads.py": "test_decoding",
    "tracking/domain/tracks.py": "test_changes",
    "tracking/domain/waypoints.py": "test_changes",
    "tracking/errors.py": "test_rejections",
    "tracking/live/fleet_subscriber.py": "test_fleet",
    "tracking/live/fleet_trip.py": "test_fleet_table",
    "tracking/live/freshness.py": "test_room",
    "tracking/live/io_uring.py": "test_sender",
    "tracking/live/notices.py": "test_etas",
    "tracking/live/recipient.py": "test_subscriber",
    "tracking/store/maintenance/approaches.py": "test_arriving",
    "tracking/store/maintenance/telling.py": "test_arriving",
    "tracking/store/outbox/arrival_events.py": "test_arriving",
    "tracking/store/read/told_arrivals.py": "test_arriving",
    "tracking/wire/arrival_message.py": "test_arrival_stream",
    "tracking/wire/eta_message.py": "test_arrival_stream",
    "tracking/store/maintenance/sampling.py": "test_arriving",
    "tracking/store/read/samples.py": "test_arrival_watch",
    "tracking/eta_metrics.py": "test_arrival_watch",
    "tracking/domain/routed.py": "test_eta",
    "tracking/store/answers.py": "test_arrival_watch",
    "tracking/router_settings.py": "test_eta_router",
    "tracking/verdict_metrics.py": "test_flagged",
    "tracking/store/maintenance/abandoned.py": "test_store_ingest",
    "handlers/api/receipts.py": "test_receipts",
    "tracking/domain/canonical.py": "test_receipts",
    "tracking/receipts.py": "test_receipts",
    "tracking/store/receipts.py": "test_receipts",
    "tracking/receipt_settings.py": "test_receipts",
    "tracking/store/maintenance/digest.py": "test_receipts",
    "tracking/store/maintenance/dropping.py": "test_retention",
    "tracking/store/maintenance/expiry.py": "test_retention",
    "tracking/store/maintenance/restore.py": "test_after_restore",
    "tracking/store/outbox/events.py": "test_store_outbox",
    "tracking/store/outbox/watermarks.py": "test_store_outbox",
    "tracking/store/read/active_trips.py": "test_fleet",
    "tracking/store/read/exported.py": "test_api_exports",
    "tracking/store/read/replayed.py": "test_replaying",
    "tracking/store/read/routes.py": "test_tracks",
    "tracking/store/read/spans.py": "test_read_live",
    "tracking/store/read/trip_records.py": "test_ops",
    "tracking/store/read/tracks.py": "test_tracks",
    "tracking/store/read/recent_erasures.py": "test_erasure_check",
    "tracking/page_settings.py": "test_settings",
    "tracking/replay_metrics.py": "test_replays",
    "tracking/access_metrics.py": "test_access_log",
    "tracking/access_settings.py": "test_settings",
    "tracking/domain/accesses.py": "test_access_log",
    "tracking/store/accesses.py": "test_access_log",
    "handlers/api/accesses.py": "test_access_log",
    "tracking/route_settings.py": "test_settings",
    "tracking/limit_settings.py": "test_settings",
    "tracking/store/sql.py": "test_store_ingest",
    "tracking/wire/antimeridian.py": "test_geojson",
    "tracking/wire/route_properties.py": "test_tracks",
    "tracking/wire/track_fields.py": "test_tracks",
    "tracking/wire/summary.py": "test_summaries",
    "tracking/wire/summarized.py": "test_outbox_summarized",
    "tracking/wire/fleet_protocol.py": "test_asyncapi",
    "handlers/base.py": "test_base",
    "handlers/query.py": "test_api_exports",
    "handlers/api/shares.py": "test_shares",
    "handlers/link_handler.py": "test_api_shared",
    "handlers/link_viewers.py": "test_link_check",
    "handlers/websocket/shared_viewer.py": "test_websocket_shared",
    "tracking/domain/shares.py": "test_views",
    "tracking/wire/shared.py": "test_websocket_shared",
    "handlers/api/tracks.py": "test_tracks",
    "handlers/application.py": "test_http",
    "workers/batch_store.py": "test_ingest",
    "workers/intake.py": "test_server",
    "workers/kafka/dead_letter_sender.py": "test_dead_letters",
    "workers/kafka/connection.py": "test_consumer",
    "workers/kafka/dead_letter_topic.py": "test_dead_letters",
    "workers/kafka/decoding.py": "test_consumer",
    "workers/kafka/recovery.py": "test_poison",
    "workers/kafka/rewind.py": "test_after_restore",
    "workers/outgoing.py": "test_outgoing",
    "workers/relay/announcing.py": "test_relay",
    "workers/relay/checks.py": "test_relay",
    "workers/relay/client.py": "test_relay",
    "workers/relay/receiving.py": "test_relay",
    "workers/relay/sending.py": "test_relay",
    "roles/building.py": "test_roles",
    "roles/serving.py": "test_roles",
    "roles/starting.py": "test_roles",
    "roles/storing.py": "test_roles",
}

# The glossary's "not" column, as far as these are no words of other things, too.
OBSOLETE = {
    "outlet", "wish", "tenure", "homeless", "letterbox", "mends", "known_tracks", "attend",
    "journey", "ride",
}  # fmt: skip

MODULES = [p for name in PACKAGES for p in sorted((CHECKOUT / name).rglob("*.py"))]
SOURCES = [
    *MODULES,
    *sorted(CHECKOUT.glob("*.py")),
    *(p for name in ("dev", "bench", "faults") for p in sorted((CHECKOUT / name).rglob("*.py"))),
]


def here(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


def imported(path: Path) -> set[str]:
    """Full names of the modules that a module imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", MODULES, ids=here)
def test_imports_point_inwards(path: Path) -> None:
    name = here(path)
    names = {each.partition(".")[0] for each in imported(path)}
    assert not names & set(PACKAGES[name.partition("/")[0]])
    for library, places in LIBRARIES.items():
        if library in names and not name.startswith(places):
            assert library == "sqlalchemy"
            assert name.startswith(TYPE_ONLY)


def test_imports_inside_tracking_point_inwards() -> None:
    found = set()
    for path in MODULES:
        package = here(path).split("/")[1]
        for name in imported(path):
            if name.startswith("tracking.") and package in INSIDE:
                other = name.split(".")[1]
                if other != package and other not in INSIDE[package]:
                    found.add((here(path), other))
    assert found == IMPORTS_TO_MEND, "take out of IMPORTS_TO_MEND what is mended"


def test_no_file_and_no_function_is_too_long() -> None:
    files, functions = set(), set()
    for path in SOURCES:
        text = path.read_text()
        if len(text.splitlines()) > FILE_LINES:
            files.add(here(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= FUNCTION_LINES:
                    functions.add(f"{here(path)}::{node.name}")
    assert files - FILES_TO_SPLIT == set()
    assert functions - FUNCTIONS_TO_SPLIT == set()
    assert FILES_TO_SPLIT - files == set(), "take out of FILES_TO_SPLIT what is split"
    assert FUNCTIONS_TO_SPLIT - functions == set(), "take out of FUNCTIONS_TO_SPLIT what is split"


def has_own_tests(path: Path, is_unique: bool) -> bool:
    names = [f"{path.parent.name}_{path.stem}", *([path.stem] if is_unique else [])]
    return any((CHECKOUT / "tests" / f"test_{name}.py").exists() for name in names)


def test_every_module_has_its_tests() -> None:
    modules = [path for path in MODULES if path.name != "__init__.py"]
    count = Counter(path.stem for path in modules)
    missing, needless = set(), set()
    for path in modules:
        name = here(path)
        entrance = next((test for start, test in ENTRANCES.items() if name.startswith(start)), None)
        test = TESTED_BY.get(name, entrance)
        if has_own_tests(path, count[path.stem] == 1):
            needless |= {name} & TESTED_BY.keys()
        elif test is None or not (CHECKOUT / "tests" / f"{test}.py").exists():
            missing.add(name)
    assert missing == set(), "write tests/test_<module>.py"
    gone = {name for name in TESTED_BY if not (CHECKOUT / name).exists()}
    assert needless | gone == set(), "take these out of TESTED_BY"


@pytest.mark.parametrize("path", MODULES, ids=here)
def test_names_are_words_of_the_glossary(path: Path) -> None:
    nodes = [*ast.walk(ast.parse(path.read_text()))]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names |= {node.name for node in nodes if isinstance(node, kinds)}
    words = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).strip("_").lower() for name in names}
    assert not words & OBSOLETE


def test_the_obsolete_words_are_in_the_glossary() -> None:
    rows = (CHECKOUT / "docs" / "glossary.md").read_text().splitlines()
    for word in OBSOLETE:
        shown = word.replace("_", " ")
        assert any(shown in row.rpartition("|")[0].rpartition("|")[2] for row in rows), word


def test_there_is_no_package_named_like_a_library() -> None:
    assert not (CHECKOUT / "alembic" / "__init__.py").exists()
