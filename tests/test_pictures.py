"""docs/pictures.md shows the pictures that dev.pictures took, and they are small."""

import re

from dev.studio import FOLDER
from tests.running import CHECKOUT

PAGE = (CHECKOUT / "docs" / "pictures.md").read_text()
# GitHub shows all of them on one page.
MOST_BYTES = 75_000


def test_every_picture_is_shown_and_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.glob("*.jpg")}
    assert sizes
    assert set(re.findall(r"pictures/([\w-]+\.jpg)", PAGE)) == set(sizes)
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}
