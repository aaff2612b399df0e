"""Metrics, read by the parser of Prometheus's own library."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from unionfs.cli.metrics import exposition
from unionfs.inspect.statistics import Operation

DOCUMENT = {
    "version": "1.2",
    "uptime_seconds": 1.5,
    "requests": {},
    "answered_by_extension": 3,
    "answered_directly": 2,
    "unforeseen_errors": 0,
    "copy_ups": {"files": 1, "bytes": 32},
    "nodes": 5,
    "descriptors": 9,
    "memory_bytes": 1 << 20,
    "busy_polling": {"spent_ns": 2_000_000, "caught": 1},
    "files_ahead": {"asked": 7, "foreseen": 6},
    "modes": [{"mode": "busy-polling", "is": "off", "because": ""}],
}


def samples(mount: bytes) -> dict[tuple[str, ...], float]:
    operation = Operation()
    for took in (900, 1_500, 40 * 10**9):
        operation.note(took)
    document = {**DOCUMENT, "requests": {"read": operation.document()}}
    families = text_string_to_metric_families(exposition(mount, document))
    return {
        (one.name, *(value for name, value in sorted(one.labels.items()))): one.value
        for family in families
        for one in family.samples
    }


def test_the_format_is_valid_and_counts_add_up() -> None:
    found = samples(b"/mnt")
    assert found["unionfs_requests_total", "/mnt", "read"] == 3
    buckets = [
        (float(key[1]), value)
        for key, value in found.items()
        if key[0] == "unionfs_request_duration_seconds_bucket"
    ]
    assert [value for _, value in sorted(buckets)] == sorted(value for _, value in buckets)
    assert (min(buckets)[1], max(buckets)) == (1, (float("inf"), 3))
    assert found["unionfs_request_duration_seconds_count", "/mnt", "read"] == 3
    assert found["unionfs_busy_polling_seconds_total", "/mnt"] == 0.002
    assert found["unionfs_files_ahead_asked_total", "/mnt"] == 7
    assert found["unionfs_files_ahead_foreseen_total", "/mnt"] == 6
    assert found["unionfs_info", "off", "/mnt", "1.2"] == 1


@pytest.mark.parametrize(
    ("mount", "label"),
    [(b'/q"u\\o\nte', '/q"u\\o\nte'), (b"/\xc3\xa4\xff", "/\u00e4\\xff"), (b"/{}=,", "/{}=,")],
)
def test_any_mount_point_is_a_label(mount: bytes, label: str) -> None:
    assert samples(mount)["unionfs_nodes", label] == 5
