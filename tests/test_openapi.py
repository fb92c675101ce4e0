"""handlers/openapi.json: every route is in it, and it says what the server answers."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from openapi_spec_validator import validate

from handlers import routes
from handlers.api.document import DOCUMENT
from tests.running import CHECKOUT, Platform, Server, Trip
from tests.served import owner, stored_trip

API: dict[str, Any] = json.loads(DOCUMENT.read_text())
METHODS = ("get", "head", "post", "put", "patch", "delete")
# A run takes two minutes on two cores that are busy with something else, too.
EXAMPLES = 60
# Only a run that hangs meets it.
DEADLINE_S = 600
# Hypothesis keeps its tables of Unicode there; to make them takes it seconds.
ENVIRON = {
    "PATH": os.environ["PATH"], "HYPOTHESIS_STORAGE_DIRECTORY": str(CHECKOUT / ".hypothesis"),
}  # fmt: skip
# No HTTP client can upgrade: to it, the best request is a bad one.
NO_UPGRADE = """
[[operations]]
include-path-regex = "^/ws/"
checks.positive_data_acceptance.enabled = false
"""


def without_names(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def offered() -> set[tuple[str, str]]:
    """Path and method of everything that the router knows."""
    found = set()
    for spec in routes():
        path = spec.regex.pattern.rstrip("$").replace("([^/]+)", "{}").replace("\\.", ".")
        found |= {(path, method.lower()) for method in spec.target.allowed_methods()}
    return found


def test_every_route_is_documented_and_no_other() -> None:
    documented = {
        (without_names(path), method)
        for path, item in API["paths"].items()
        for method in item
        if method in METHODS
    }
    assert documented == offered()


def query_of(path: str) -> set[str]:
    """As the document has it; the token is one of the securitySchemes."""
    found = set()
    for parameter in [
        *API["paths"][path].get("parameters", []),
        *API["paths"][path]["get"].get("parameters", []),
    ]:
        if "$ref" in parameter:
            parameter = API["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]
        found |= {parameter["name"]} if parameter["in"] == "query" else set()
    return found


def asked_for(folder: str) -> Iterator[str]:
    """Names of query parameters that handlers read."""
    readers = {"get_query_argument", "get_query_arguments", "whole_number", "time_of", "number_of"}
    for path in sorted((CHECKOUT / "handlers" / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                names = [each.value for each in node.args if isinstance(each, ast.Constant)]
                if called in readers:
                    yield str(names[0])


def test_what_handlers_read_of_a_query_is_documented_and_nothing_else() -> None:
    sockets = {path for path in API["paths"] if path.startswith("/ws/")}
    rest = {path for path in API["paths"] if "get" in API["paths"][path]} - sockets
    assert {*asked_for("websocket")} == set().union(*map(query_of, sockets))
    assert {*asked_for("api")} == set().union(*map(query_of, rest))


def test_both_documents_say_the_same_of_the_queries_of_sockets() -> None:
    channels = yaml.safe_load((CHECKOUT / "docs" / "asyncapi.yaml").read_text())["channels"]
    said: dict[str, set[str]] = {}
    for channel in channels.values():
        binding = channel.get("bindings", {}).get("ws")
        if binding is not None:
            names = binding["query"]["properties"].keys() - {"token"}
            said[channel["address"]] = said.get(channel["address"], set()) | names
    assert said == {path: query_of(path) for path in API["paths"] if path.startswith("/ws/")}


def test_the_document_is_openapi_3_1() -> None:
    validate(API)


def test_the_document_is_public_and_not_sent_twice(server: Server) -> None:
    status, body, headers = server.get("/api/v1/openapi.json")
    assert (status, body) == (200, API)
    again = {"If-None-Match": headers["ETag"]}
    assert server.get("/api/v1/openapi.json", **again)[:2] == (304, b"")


def run_schemathesis(
    server: Server, directory: Path, api: dict[str, Any], config: str, *arguments: str
) -> None:
    """Requests made from the document; every answer has to be as it says."""
    document = directory / "openapi.json"
    paths = {path: {k: v for k, v in item.items() if k != "head"}  # tests/test_http.py has them
             for path, item in api["paths"].items()}  # fmt: skip
    document.write_text(json.dumps({**api, "paths": paths}))
    (directory / "schemathesis.toml").write_text(config + NO_UPGRADE)
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"), "run", document,
            "--url", f"http://127.0.0.1:{server.port}", "--no-color", "--seed", "1",
            "--max-examples", str(EXAMPLES), "--generation-database", "none", *arguments,
        ],
        cwd=directory, env=ENVIRON, capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr


@pytest.mark.timeout(DEADLINE_S + 60)
def test_the_answers_to_an_owner_are_as_documented(
    server: Server, platform: Platform, tmp_path: Path
) -> None:
    waypoints = 3
    trip: Trip = stored_trip(server, platform, waypoints)
    known = deepcopy(API)  # what no document can say: above the head is a bad request
    known["components"]["parameters"]["sinceSeq"]["schema"]["maximum"] = waypoints
    run_schemathesis(
        server, tmp_path, known, f'[parameters]\n"path.bookingId" = "{trip.booking_id}"\n',
        "--header", f"Authorization: Bearer {owner(server, trip)}",
    )  # fmt: skip


@pytest.mark.timeout(DEADLINE_S + 60)
def test_the_answers_to_an_admin_are_as_documented(
    server: Server, platform: Platform, tmp_path: Path
) -> None:
    trip: Trip = stored_trip(server, platform, 3)
    own = {path: item for path, item in API["paths"].items() if "/ops/trips" in path}
    run_schemathesis(
        server, tmp_path, {**API, "paths": own},
        f'[parameters]\n"path.bookingId" = "{trip.booking_id}"\n',
        "--header", f"Authorization: Bearer {server.token(uuid4(), 'admin')}",
    )  # fmt: skip


@pytest.mark.timeout(DEADLINE_S + 60)
def test_the_answers_to_a_stranger_are_as_documented(server: Server, tmp_path: Path) -> None:
    run_schemathesis(server, tmp_path, API, "")
