"""web/client as a package: its types are the protocol's, and what npm packs can be used."""

import fcntl
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from dev.web import MODULES, NODE, NPM, WEB, install, run
from tests.test_asyncapi import CLIENT_MESSAGES, PARTS, SCHEMAS, SERVER_MESSAGES

CLIENT = WEB / "client"
# The library's type of a schema, where it is not called the same.
NAMES = {"backfill_point": "Omit<library.Waypoint, 'received_at'>"}
USE = """
import { silenceOf, Trip, type Change, type Silence } from "service-tracking-client";

const trip = new Trip({ server: "wss://tracking.example", path: "/ws/shared/token" });
let seen: Change["kind"] | null = null;
trip.subscribe((change) => { seen = change.kind; });
const silence: Silence = silenceOf(trip.state);
// @ts-expect-error the state is not the caller's to change
trip.state.link = "open";
if (silence !== "link" && silence !== null) throw new Error(silence);
if (seen !== null || trip.state.route.length !== 0) throw new Error("nothing has happened yet");
"""


@pytest.fixture(scope="session", autouse=True)
def modules() -> None:
    """web/node_modules, made by one of the workers that need it."""
    with (WEB / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        install()


def compile_(*arguments: str | Path) -> str:
    return run([NODE, MODULES / ".bin" / "tsc", *arguments])


def typescript(schema: dict[str, Any]) -> str:
    """The type that a schema of docs/asyncapi.yaml describes."""
    if "$ref" in schema:
        return typescript(SCHEMAS[schema["$ref"].rpartition("/")[2]])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "oneOf" in schema:
        return " | ".join(typescript(each) for each in schema["oneOf"])
    if "enum" in schema:
        return " | ".join(json.dumps(each) for each in schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " | ".join(of_kind(kind, schema) for kind in kinds)


def of_kind(kind: str, schema: dict[str, Any]) -> str:
    if kind == "array":
        if schema.get("minItems") == schema.get("maxItems", -1):
            return f"[{', '.join([typescript(schema['items'])] * schema['minItems'])}]"
        return f"({typescript(schema['items'])})[]"
    if kind == "object":
        optional = set(schema["properties"]) - set(schema["required"])
        fields = [
            f"{name}{'?' if name in optional else ''}: {typescript(value)}"
            for name, value in schema["properties"].items()
        ]
        return "{ " + "; ".join(fields) + " }"
    return {"integer": "number"}.get(kind, kind)


def comparison(name: str) -> str:
    """Fails to compile unless the library's type has the document's fields and takes its values."""
    own = NAMES.get(name, "library." + "".join(word.title() for word in name.split("_")))
    schemas = [SCHEMAS[each] for each in (name, f"shared_{name}") if each in SCHEMAS]
    fields = " | ".join(json.dumps(field) for each in schemas for field in each["properties"])
    lines = [f"export const fields_{name}: Same<{fields}, keyof {own}> = true;"]
    for number, schema in enumerate(schemas):
        document = typescript(schema)
        given, taken = (own, document) if name in CLIENT_MESSAGES else (document, own)
        lines.append(f"export const take_{name}_{number} = (given: {given}): {taken} => given;")
    return "\n".join(lines) + "\n"


def test_the_types_of_messages_are_those_of_the_document(tmp_path: Path) -> None:
    names = [*SERVER_MESSAGES, *CLIENT_MESSAGES, *PARTS]
    told, said = (" | ".join(map(json.dumps, each)) for each in (SERVER_MESSAGES, CLIENT_MESSAGES))
    source = f"""import type * as library from {json.dumps(str(CLIENT / "src" / "messages.ts"))};
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;
export const told: Same<library.ServerMessage["type"], {told}> = true;
export const said: Same<library.ClientMessage["type"], {said}> = true;
"""
    (tmp_path / "check.ts").write_text(source + "".join(map(comparison, names)))
    config = {
        "extends": str(CLIENT / "tsconfig.json"),
        "include": ["check.ts"],
        "compilerOptions": {"rootDir": "/", "noUnusedLocals": False},
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps(config))
    compile_("--noEmit", "-p", tmp_path)


def test_the_library_uses_no_types_of_browsers_or_node() -> None:
    config = json.loads(compile_("-p", CLIENT, "--showConfig"))["compilerOptions"]
    assert (config["lib"], config["types"], config["strict"]) == (["es2023"], [], True)
    compile_("--noEmit", "-p", CLIENT)
    for path in (CLIENT / "src").glob("*.ts"):
        assert "@ts-" not in path.read_text()


def test_the_example_and_the_programs_of_the_tests_have_the_right_types() -> None:
    compile_("--noEmit", "-p", CLIENT / "test")


def test_what_npm_packs_can_be_installed_and_imported_with_its_types(tmp_path: Path) -> None:
    package, user = tmp_path / "package", tmp_path / "user"
    package.mkdir()
    user.mkdir()
    compile_("-p", CLIENT, "--outDir", package / "dist")
    for name in ("package.json", "README.md"):
        shutil.copy(CLIENT / name, package)
    npm: list[str | Path] = [NODE, NPM, "--cache", tmp_path / "cache", "--offline", "--no-audit"]
    run([*npm, "pack", package, "--pack-destination", tmp_path])
    (packed,) = tmp_path.glob("*.tgz")
    with tarfile.open(packed) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
    assert {"dist/index.js", "dist/index.d.ts", "package.json", "README.md"} <= names
    assert {name.partition("/")[0] for name in names} == {"dist", "package.json", "README.md"}
    assert json.loads((package / "package.json").read_text()).get("dependencies") is None
    (user / "package.json").write_text('{"type": "module", "private": true}')
    run([*npm, "install", "--prefix", user, packed])
    (user / "use.ts").write_text(USE)
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--types", ""]
    compile_(*options, "--ignoreConfig", "--outDir", user, user / "use.ts")
    run([NODE, user / "use.js"])
