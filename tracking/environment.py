"""How settings are read from the environment and explained; each is a field with its parser."""

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Self, TypeVar

from tracking.errors import SettingsError

T = TypeVar("T")


def variable(
    default: T,
    parse: Callable[[str], T],
    explanation: str,
    *,
    secret: bool = False,
    may_be_empty: bool = False,
) -> T:
    """A field that is read from the variable of its name in upper case.

    A `secret` is never shown, and may come from the file that NAME_FILE names. An empty text
    counts as not set, unless it `may_be_empty`.
    """
    metadata = {
        "parse": parse, "help": explanation, "secret": secret, "may_be_empty": may_be_empty
    }  # fmt: skip
    declared: T = field(default=default, metadata=metadata)
    return declared


@dataclass(frozen=True, kw_only=True)
class EnvironmentSettings:
    """Fields that are read from the variables of their names."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Raises SettingsError with one line for each variable that is wrong."""
        found, problems = {}, []
        for each in fields(cls):
            value = None
            try:
                value = _read(each, environ)
                if value is not None:
                    found[each.name] = each.metadata["parse"](value)
            except (ValueError, OSError) as error:
                problems.append(_problem(each, value or "", error))
        settings = cls(**found)
        # A variable that could not be read is not one that is missing.
        problems = problems or settings.contradictions()
        if problems:
            raise SettingsError("\n".join(problems))
        return settings

    def contradictions(self) -> list[str]:
        """What is wrong with the variables together; one line each."""
        return []

    def masked(self) -> dict[str, object]:
        """For the log: every variable, secrets as *** when they are set."""
        return {
            each.name: "***"
            if _is_secret(each) and getattr(self, each.name)
            else _plain(self, each)
            for each in fields(self)
        }

    @classmethod
    def explain(cls) -> str:
        """One line for each variable, for --help."""
        width = max(len(each.name) for each in fields(cls))
        return "\n".join(
            f"  {each.name.upper():{width}}  {each.metadata['help']}{_default(each)}"
            for each in fields(cls)
        )


def _default(each: Field[Any]) -> str:
    if each.default is MISSING or each.default in ("", (), None):
        return ""
    shown = ",".join(map(str, each.default)) if isinstance(each.default, tuple) else each.default
    return f" [{ {True: 'on', False: 'off'}[shown] if isinstance(shown, bool) else shown }]"


def _is_secret(each: Field[Any]) -> bool:
    return bool(each.metadata["secret"])


def _plain(settings: EnvironmentSettings, each: Field[Any]) -> object:
    value = getattr(settings, each.name)
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def _read(each: Field[Any], environ: Mapping[str, str]) -> str | None:
    """The variable's text, from the environment or the file that NAME_FILE names."""
    name = each.name.upper()
    text, path = environ.get(name), environ.get(f"{name}_FILE")
    if text is None and path and _is_secret(each):
        text = Path(path).read_text().strip()
    return None if text == "" and not each.metadata["may_be_empty"] else text


def _problem(each: Field[Any], value: str, error: Exception) -> str:
    name = each.name.upper()
    if isinstance(error, OSError):
        return f"{name}_FILE: {error.strerror}: {error.filename!r}; expected a readable file"
    found = f"{len(value.encode())} bytes" if _is_secret(each) else repr(value)
    return f"{name}: found {found}, expected {error}"
