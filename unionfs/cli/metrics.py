"""A mount's statistics in the text format that Prometheus reads (its "exposition formats")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from unionfs.inspect.statistics import Operation, operations_of

_SHOWN = range(9, 34)  # buckets, up to 1 us, 2 us, ... 17 s


def exposition(mount: bytes, document: Mapping[str, Any]) -> str:
    """Return *document* (of ``fuse.measured``) as metrics, each labelled with *mount*.

    Labels are UTF-8 (exposition formats, "Comments, help text, and type information"): other bytes
    are written as \\xHH.
    """
    registry = CollectorRegistry()
    registry.register(_Mount(mount.decode("utf-8", "backslashreplace"), document))
    return generate_latest(registry).decode()


class _Mount(Collector):
    """One mount's metrics; times in seconds and sizes in bytes, as Prometheus wants them."""

    def __init__(self, mount: str, document: Mapping[str, Any]) -> None:
        self._mount = mount
        self._document = document

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._requests(operations_of(self._document))
        document = self._document
        copied, polling = document["copy_ups"], document["busy_polling"]
        ahead = document["files_ahead"]
        for name, text, value in (
            ("answered_by_extension", "Requests answered without Python.", None),
            ("answered_directly", "Requests answered by Python without pyfuse3.", None),
            ("unforeseen_errors", "Errors that nobody foresaw, answered with EIO.", None),
            ("copy_up_files", "Files copied up.", copied["files"]),
            ("copy_up_bytes", "Bytes copied up.", copied["bytes"]),
            ("busy_polling_seconds", "Time of waiting awake.", polling["spent_ns"] / 1e9),
            ("files_ahead_asked", "Files asked of the disk before they were read.", ahead["asked"]),
            ("files_ahead_foreseen", "Files read as foreseen.", ahead["foreseen"]),
            ("busy_polling_caught", "Requests that waiting awake caught.", polling["caught"]),
        ):
            counter = CounterMetricFamily(f"unionfs_{name}", text, labels=["mount"])
            counter.add_metric([self._mount], document[name] if value is None else value)
            yield counter
        for name, text, key in (
            ("nodes", "Files that the kernel knows.", "nodes"),
            ("open_descriptors", "Descriptors of the daemon.", "descriptors"),
            ("resident_memory_bytes", "Memory of the daemon.", "memory_bytes"),
            ("uptime_seconds", "Time since the mount was made.", "uptime_seconds"),
        ):
            gauge = GaugeMetricFamily(f"unionfs_{name}", text, labels=["mount"])
            gauge.add_metric([self._mount], document[key])
            yield gauge
        yield self._info()

    def _info(self) -> Metric:
        info = InfoMetricFamily("unionfs", "Version and modes.", labels=["mount"])
        modes = {one["mode"].replace("-", "_"): one["is"] for one in self._document["modes"]}
        info.add_metric([self._mount], {"version": self._document["version"], **modes})
        return info

    def _requests(self, operations: Mapping[str, Operation]) -> Iterator[Metric]:
        labels = ["mount", "operation"]
        counts = CounterMetricFamily("unionfs_requests", "Requests.", labels=labels)
        errors = CounterMetricFamily("unionfs_request_errors", "Failed requests.", labels=labels)
        times = HistogramMetricFamily(
            "unionfs_request_duration_seconds", "From request to answer.", labels=labels
        )
        for name, one in sorted(operations.items()):
            counts.add_metric([self._mount, name], one.count)
            errors.add_metric([self._mount, name], one.errors)
            times.add_metric([self._mount, name], _cumulated(one), one.total_ns / 1e9)
        yield from (counts, errors, times)


def _cumulated(one: Operation) -> list[tuple[str, float]]:
    """Return how many requests took at most so long (seconds): the same limits at all times."""
    limits = [(repr(2.0 ** (place + 1) / 1e9), sum(one.buckets[: place + 1])) for place in _SHOWN]
    return [(limit, float(count)) for limit, count in (*limits, ("+Inf", sum(one.buckets)))]
