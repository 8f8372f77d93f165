"""URLs of clusters: what they say, and what is refused."""

from __future__ import annotations

import pytest

from shmmap import ENGINE, StoreRefused, StoreUnavailable, Tiered
from shmmap.tiers.redis_urls import read_cluster

from ...support.redis_cluster import Cluster, free_port
from ...support.redis_server import RedisServer
from .conftest import listens

pytestmark = pytest.mark.skipif(ENGINE == "pure", reason="the same with either engine")


def url_of(cluster: Cluster, *numbers: int) -> str:
    """Return a URL with some nodes."""
    return "redis+cluster://" + ",".join(
        f"127.0.0.1:{cluster.nodes[number].port}" for number in numbers)


def test_a_url_names_some_nodes(tiers, cluster):
    first = listens(tiers(url_of(cluster, 0), max_staleness=60))
    ports = sorted(node.port for node in cluster.nodes[1:])
    other = tiers(url_of(cluster, 2, 1) + "/0?socket_timeout=0.5")
    assert other.store.where == f"cluster 127.0.0.1:{ports[0]}"
    assert other.store._known["socket_timeout"] == 0.5
    pairs = {f"key{number}": number for number in range(50)}
    other.set_many(pairs)
    assert first.get_many(pairs) == pairs
    nobody = tiers("redis+cluster://127.0.0.1:1,127.0.0.1:2", timeout=0.3)
    with pytest.raises(StoreUnavailable) as raised:
        nobody["a"] = 1
    assert not raised.value.was_sent


def test_a_single_server_is_no_cluster(tiers, tmp_path):
    """That does not pass, so it is not told as an outage; nor is a silent one beside it blamed."""
    port = free_port()
    single = RedisServer(tmp_path, "--port", str(port))
    try:
        for more in ("", ",127.0.0.1:1"):
            tier = tiers(f"redis+cluster://127.0.0.1:{port}{more}", timeout=0.3)
            for _ in range(2):
                with pytest.raises(StoreRefused, match=r"is a single server, .* with redis://"):
                    tier["a"]
    finally:
        single.kill()


@pytest.mark.parametrize(("url", "words"), [
    ("redis+cluster://", "each node is"), ("redis+cluster://h:1,,h:2", "each node is"),
    ("redis+cluster://u:secret@:7000", "each node is"), ("redis+cluster://u:secret@h:x", "h:x'"),
    ("rediss+cluster://u:secret@h:1,h:99999/?password=secret", "range"),
    ("redis+cluster://h:1/3", "no database but 0"),
    ("redis+cluster://h:1?db=3", "no database but 0"),
    ("unix+cluster://h", r"redis\+cluster:// or"), ("cluster://u:secret@h:1", "of a cluster: "),
    ("http://u:secret@h/secret?secret", "scheme"),
])
def test_a_url_that_names_no_cluster(make, url, words):
    with pytest.raises(ValueError, match=words) as raised:
        Tiered(make(), url)
    assert "secret" not in str(raised.value).replace("h/secret", "")


def test_what_a_url_says():
    url = read_cluster("rediss+cluster://me:p%40ss@[::1]:7000,host.example?ssl_cert_reqs=none")
    assert url.seeds == [("::1", 7000), ("host.example", 6379)]
    known = url.pool.connection_kwargs
    assert (known["username"], known["password"], known["ssl_cert_reqs"]) == ("me", "p@ss", "none")
    assert "SSL" in url.pool.connection_class.__name__
