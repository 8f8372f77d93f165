"""Latencies of single operations, counted in buckets that are finer than what they tell apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

# An octave has 64 buckets, so that a figure read off is at most 1/64 too large.
_BITS = 6


class Histogram:
    """How often each latency was seen, to 1.6 %; those of several processes add up.

    >>> one, two = Histogram([100, 200]), Histogram([300, 40_000])
    >>> one.add(two)
    >>> one.count, one.most, one.within(0.5)
    (4, 40000, 201)
    """

    def __init__(self, spans_ns: Iterable[int] = ()) -> None:
        spans = Counter(spans_ns)
        self.buckets: Counter[int] = Counter()
        for span, times in spans.items():
            self.buckets[bucket_of(span)] += times
        self.most = max(spans, default=0)

    @property
    def count(self) -> int:
        """How many latencies there are."""
        return self.buckets.total()

    def add(self, other: Histogram) -> None:
        """Count those of another process as well."""
        self.buckets.update(other.buckets)
        self.most = max(self.most, other.most)

    def within(self, share: float) -> int:
        """Return the latency that this share of all stayed within: nearest rank, bucket's end."""
        rank = max(1, math.ceil(share * self.count))
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                return min(last_of(bucket), self.most)
        raise ValueError("no latencies")


def bucket_of(span: int) -> int:
    """Number the bucket of a latency.

    >>> [bucket_of(span) for span in (0, 127, 128, 129, 130, 1 << 20)]
    [0, 127, 128, 128, 129, 960]
    """
    shift = max(0, span.bit_length() - _BITS - 1)
    return (shift << _BITS) + (span >> shift)


def last_of(bucket: int) -> int:
    """Return the longest latency of a bucket.

    >>> [last_of(bucket) for bucket in (0, 127, 128, 129)]
    [0, 127, 129, 131]
    """
    shift = max(0, (bucket >> _BITS) - 1)
    return ((bucket - (shift << _BITS) + 1) << shift) - 1
