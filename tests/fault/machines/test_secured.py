"""Certificates and rights: what is refused is refused by name, and nothing is written."""

from __future__ import annotations

import subprocess
import time
from shutil import which

import pytest
import redis

import shmmap

from ...machines.network import within
from ...machines.servers import Server

TLS_PORT = 6380
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
RIGHTS = ["+get", "+pttl", "+ping", "+set", "+client", "+hello"]


def certificates(folder, address):
    """Make two authorities, and certificates of a server: of the first, for today and for days that
    are over."""
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    (folder / "names").write_text(f"subjectAltName=IP:{address}\n")
    for name in ("ca", "other"):
        openssl("req", "-x509", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj",
                f"/CN={name}", "-days", "2")
    openssl("req", *KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    for name, days in (("server", "2"), ("expired", "-1")):
        openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-days", days, "-extfile", "names", "-out", f"{name}.pem")


def tries(child):
    """Open a tier of what is told, write and read; tell what came of it."""
    m = shmmap.ShmMap("near", size="1MB")
    while True:
        with shmmap.Tiered(m, child.hear(), timeout=0.3) as tier:
            try:
                tier["a"] = 1
                child.tell(("", str(tier["a"])))
            except shmmap.ShmMapError as error:
                child.tell((type(error).__name__, str(error)))


@pytest.mark.skipif(which("openssl") is None, reason="needs openssl")
def test_certificates_and_rights(network, folder):
    node = network.node("store", has_shm=True)
    certificates(folder, node.address)
    server = Server(node, folder, "--tls-port", str(TLS_PORT), "--tls-auth-clients", "no",
                    "--tls-cert-file", f"{folder}/server.pem", "--tls-key-file",
                    f"{folder}/server.key", "--tls-ca-cert-file", f"{folder}/ca.pem")
    child = within(node, tries, 60)
    try:
        server.start()
        client = server.client

        def ask(url: str) -> tuple[str, str]:
            client.flushall()
            child.tell(url)
            found = child.hear()
            assert (client.get("shmmap:a") is None) == bool(found[0])
            return found

        ours = f"rediss://{node.address}:{TLS_PORT}?ssl_ca_certs={folder}/ca.pem"
        assert ask(ours) == ("", "1")
        refused = {
            ours.replace("/ca.pem", "/other.pem"): "certificate verify failed: self-signed",
            ours.replace(node.address, "127.0.0.1"): "IP address mismatch",
        }
        for url, words in refused.items():
            kind, text = ask(url)
            assert kind == "StoreUnavailable" and words in text, text
        client.config_set("tls-cert-file", f"{folder}/expired.pem")
        kind, text = ask(ours)
        assert kind == "StoreUnavailable" and "certificate has expired" in text, text
        client.config_set("tls-cert-file", f"{folder}/server.pem")
        client.config_set("tls-auth-clients", "yes")
        assert ask(ours)[0] == "StoreUnavailable"  # it wants ours, too

        plain = f"{node.address}:6379"
        client.acl_setuser("all", enabled=True, passwords=["+pw"], keys=["shmmap:*"],
                           commands=RIGHTS)
        client.acl_setuser("others", enabled=True, passwords=["+pw"], keys=["other:*"],
                           commands=RIGHTS)
        client.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["shmmap:*"],
                           commands=[one for one in RIGHTS if one != "+set"])
        assert ask(f"redis://all:pw@{plain}") == ("", "1")
        for user, words in [("reader:pw", "NOPERM"), ("others:pw", "NOPERM"),
                            ("all:wrong", "invalid username-password"),
                            ("nobody:pw", "invalid username-password")]:
            kind, text = ask(f"redis://{user}@{plain}")
            assert kind == "StoreRefused" and words in text and "wrong" not in text, text
    finally:
        child.kill()
        server.kill()


def test_what_the_server_evicts_is_taken_out(network, folder):
    """It tells of the names that it removes for want of memory, as of any other change."""
    node = network.node("store", has_shm=True)
    server = Server(node, folder)

    def reads(child):
        m = shmmap.ShmMap("near", size="1MB")
        tier = shmmap.Tiered(m, f"redis://{node.address}:6379", consistency="session")
        while not tier.report().is_listening:
            pass
        for n in range(50):
            tier[n] = n
        until = tier.report().changes
        while tier.report().changes != until or until < 50:
            until = tier.report().changes
        child.tell([tier[n] for n in range(50)])
        child.hear()
        asked, deadline = tier.report().asked, time.monotonic() + 10
        copies = 50
        while copies and time.monotonic() < deadline:  # the news is on its way
            copies = sum(m.get(n) is not None for n in range(50))
        return copies, [tier.get(n) for n in range(50)], tier.report().asked - asked

    child = within(node, reads, 60)
    try:
        server.start()
        assert child.hear() == list(range(50))
        client = server.client
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "1mb")  # less than it has without any key
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("other", "x")
        assert client.dbsize() == 0
        child.tell("go on")
        copies, found, asked = child.hear()
        assert (copies, found, asked) == (0, [None] * 50, 50)
    finally:
        child.kill()
        server.kill()
