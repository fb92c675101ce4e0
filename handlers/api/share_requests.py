"""What an owner asks for when a booking is shared: JSON of the body -> checked values."""

import re
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from tracking.domain.shares import ShareTerms
from tracking.errors import InvalidRequest
from tracking.settings import Settings

T = TypeVar("T")

MAX_LABEL: Final = 80
# One line of text: PostgreSQL takes no NUL, and nobody means the others.
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class ShareChanges(Struct, forbid_unknown_fields=True):
    """The body of PATCH; what is not named stays as it is. `label` null: none."""

    # A float is whole or refused: JSON knows no difference between 60 and 60.0.
    expires_in_s: int | float | UnsetType = UNSET
    label: str | UnsetType | None = UNSET
    after_end_s: int | float | UnsetType = UNSET


class ShareRequest(ShareChanges, forbid_unknown_fields=True):
    """The body of POST, which may be empty."""

    from_: Literal["now", "pickup"] = field(name="from", default="now")


def share_terms(body: bytes, settings: Settings) -> ShareTerms:
    """Raises InvalidRequest, with the field's name."""
    request = _decoded(body or b"{}", ShareRequest)
    given = _checked(request, settings)
    usual_s = settings.share_link_hours * 3600
    return ShareTerms(
        expires_in_s=given.get("expires_in_s", usual_s),
        label=given.get("label"),
        from_pickup=request.from_ == "pickup",
        after_end_s=given.get("after_end_s", usual_s),
    )


def share_changes(body: bytes, settings: Settings) -> dict[str, Any]:
    """Only what is named; raises InvalidRequest, with the field's name."""
    return _checked(_decoded(body, ShareChanges), settings)


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not as expected: {error}") from None


def _checked(request: ShareChanges, settings: Settings) -> dict[str, Any]:
    given = {
        name: value
        for name in ("expires_in_s", "label", "after_end_s")
        if (value := getattr(request, name)) is not UNSET
    }
    for name, least in (("expires_in_s", 1), ("after_end_s", 0)):
        value, most = given.get(name, least), settings.share_link_max_s
        if not least <= value <= most or value != int(value):
            raise InvalidRequest(
                f"{name} is {least} to {most} whole seconds (SHARE_LINK_MAX_HOURS)"
            )
        if name in given:
            given[name] = int(value)
    label = given.get("label") or ""
    if len(label) > MAX_LABEL or CONTROL.search(label):
        raise InvalidRequest(f"label is one line of at most {MAX_LABEL} characters")
    return given
