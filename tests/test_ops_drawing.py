"""web/src/ops: how the operator's dots are drawn and gathered; tests in TypeScript."""

import re

from dev.web import NODE, WEB, run

TESTS = WEB / "test" / "discs.test.ts"


def test_discs_and_clusters() -> None:
    told = run([NODE, "--test", "--test-reporter=tap", TESTS])
    written = len(re.findall(r"^test\(", TESTS.read_text(), re.MULTILINE))
    assert f"\n# pass {written}\n" in told, told
