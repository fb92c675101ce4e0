"""tracking.metrics: what is counted under which labels."""

from tracking import __version__
from tracking.metrics import Metrics


def exposed(metrics: Metrics, name: str) -> dict[str, float]:
    """The samples of a metric, by their labels as they are written."""
    lines = metrics.exposition().decode().splitlines()
    samples = [line for line in lines if line.startswith(f"tracking_{name}" + "{")]
    return {line[line.index("{") : line.index("} ") + 1]: float(line[line.index("} ") + 2 :])
            for line in samples}  # fmt: skip


def test_types_that_nobody_knows_share_one_label() -> None:
    metrics = Metrics()
    metrics.count_events({
        ("runner.location_update", "applied"): 3,
        ("runner.lunch", "ignored"): 2,
        ("booking.x" * 10, "ignored"): 1,
    })  # fmt: skip
    assert exposed(metrics, "events_total") == {
        '{outcome="applied",type="runner.location_update"}': 3,
        '{outcome="ignored",type="other"}': 3,
    }


def test_details_are_counted_by_field() -> None:
    metrics = Metrics()
    metrics.count_dropped({"heading_degrees": 2})
    metrics.count_dropped({"heading_degrees": 1, "pet_name": 1})
    found = exposed(metrics, "details_dropped_total")
    assert found == {'{field="heading_degrees"}': 3, '{field="pet_name"}': 1}


def test_the_running_version_is_exposed() -> None:
    assert exposed(Metrics(), "build_info") == {f'{{version="{__version__}"}}': 1}


def test_two_servers_in_one_process_count_by_themselves() -> None:
    one, other = Metrics(), Metrics()
    one.messages.inc()
    assert b"tracking_messages_sent_total 1.0" in one.exposition()
    assert b"tracking_messages_sent_total 0.0" in other.exposition()
