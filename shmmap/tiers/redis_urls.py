"""What a URL says of a store: "redis://...", or "redis+cluster://host:port,host2:port2": some nodes
of a cluster, which know the others.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import redis

from .redis_cluster_feed import Address

_CLUSTER = "+cluster"
_KINDS = ("redis", "rediss")


class ClusterURL(NamedTuple):
    """What connects to any node, and addresses of some."""

    pool: Any
    seeds: list[Address]


def is_cluster(url: Any) -> bool:
    """Tell whether a URL is one of a cluster."""
    return isinstance(url, str) and url.partition("://")[0].endswith(_CLUSTER)


def pool_of(url: str) -> Any:
    """Return what a URL's connections are made by; raises ValueError, without any password."""
    try:
        return redis.Redis.from_url(url).connection_pool
    except ValueError as error:
        clusters = f'; of a cluster: "redis{_CLUSTER}://host:port,host2:port2"'
        more = clusters if "scheme" in str(error) else ""
        raise ValueError(f"store={shown(url)!r}: {error}{more}") from None


def read_cluster(url: str) -> ClusterURL:
    """Read the URL of a cluster; raises ValueError, without any password."""
    scheme, _, rest = url.partition("://")
    kind = scheme.removesuffix(_CLUSTER)
    if kind not in _KINDS:
        raise _refused(url, f"a cluster is reached by redis{_CLUSTER}:// or rediss{_CLUSTER}://")
    before, hosts, path, query = _parts(rest)
    if path not in ("", "/", "/0"):
        raise _refused(url, f"a cluster has no database but 0, not {path[1:]!r}")
    pools = []
    for host in hosts.split(","):
        if not host or host.startswith(":"):
            raise _refused(url, "each node is host or host:port, with commas between them")
        try:
            pools.append(redis.Redis.from_url(f"{kind}://{before}{host}{query}").connection_pool)
        except ValueError as error:
            raise _refused(url, str(error)) from None
    given = [pool.connection_kwargs for pool in pools]
    if given[0].get("db"):
        raise _refused(url, f"a cluster has no database but 0, not {given[0]['db']}")
    seeds = [(str(one["host"]), int(one.get("port") or 6379)) for one in given]
    return ClusterURL(pools[0], seeds)


def shown(url: str) -> str:
    """Return a URL without its user, password and query."""
    scheme, between, rest = url.partition("://")
    _, hosts, path, _ = _parts(rest)
    return f"{scheme}{between}{hosts}{path}"


def _parts(rest: str) -> tuple[str, str, str, str]:
    """Return user and password with their "@", the hosts, the path, and the query."""
    at = re.search("[/?#]", rest)
    place, more = (rest[:at.start()], rest[at.start():]) if at else (rest, "")
    before, sign, hosts = place.rpartition("@")
    path, mark, query = more.partition("?")
    return before + sign, hosts, path, mark + query


def _refused(url: str, why: str) -> ValueError:
    return ValueError(f"store={shown(url)!r}: {why}")
