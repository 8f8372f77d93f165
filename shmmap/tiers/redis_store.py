"""Redis and Valkey as the store: one server, or the master that sentinels name.

By connections of its own, made as those of the client that it is given: none of them is asked
again by itself, since a write that was asked twice may be done twice, and each has a timeout,
since a wire that is cut says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from ..errors import StoreRefused, StoreUnavailable
from ..system.blocks import block
from . import redis_scripts as scripts
from .store import Found, each

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from .redis_feed import RedisFeed
except ImportError as error:
    raise ImportError(
        'a Tiered over Redis or Valkey needs redis-py: pip install "shmmap[redis]"'
    ) from error

TIMEOUT_S = 1.0
AT_ONCE = 1_000  # names in one pipeline
_NOT_NOW = ("BUSY ", "LOADING ", "MASTERDOWN ", "MISCONF ", "NOREPLICAS ", "READONLY ",
            "CLUSTERDOWN ", "TRYAGAIN ", "UNKILLABLE ")
_OF_PIPELINE = re.compile(r"^Command # \d+ \(.*?\) of pipeline caused error: ", re.S)
_KEPT = (  # of a client's connections: what they connect to, and as whom
    "host", "port", "path", "db", "username", "password", "credential_provider", "client_name",
    "socket_keepalive", "socket_keepalive_options", "socket_type", "socket_timeout",
    "socket_connect_timeout", "redis_connect_func", "ssl_keyfile", "ssl_certfile", "ssl_cert_reqs",
    "ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_check_hostname", "ssl_password",
    "ssl_validate_ocsp", "ssl_validate_ocsp_stapled", "ssl_ocsp_context", "ssl_ocsp_expected_cert",
    "ssl_min_version", "ssl_ciphers", "ssl_include_verify_flags", "ssl_exclude_verify_flags",
)


class RedisStore:
    """A store: see `store`.

    Args:
        client: a `redis.Redis` (also of `Sentinel.master_for`), or a URL, "redis://...",
            "rediss://..." or "unix://...". Only how it connects is taken from it.
        timeout: seconds that a call waits for an answer, and for a connection; None: those of the
            client, and TIMEOUT_S where it has none.
    """

    def __init__(self, client: Any, timeout: float | None = None) -> None:
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout={timeout!r} must be more than 0 seconds")
        if isinstance(client, str):
            try:
                client = redis.Redis.from_url(client)
            except ValueError as error:
                raise ValueError(f"store={client!r}: {error}") from None
        pool = getattr(client, "connection_pool", None)
        if not isinstance(pool, redis.ConnectionPool) or not isinstance(client, redis.Redis):
            kind = client if isinstance(client, type) else type(client)
            cannot = ("; clients of a cluster are not served yet" if "Cluster" in kind.__name__ else
                      "; those for coroutines are not served" if "asyncio" in kind.__module__ else
                      ": give an object, not its class" if kind is client else "")
            raise TypeError(
                "store= must be a client redis.Redis(...), also one of Sentinel.master_for(...), a "
                f"URL, or a store of your own, not {kind.__module__}.{kind.__qualname__}{cannot}"
            )
        self._timeout_s = timeout
        pool = self._pool_like(pool)
        self._client: Any = redis.Redis(connection_pool=pool)
        self._pool = pool
        known = pool.connection_kwargs
        place = getattr(pool, "service_name", None) or known.get("path") or (
            f"{known.get('host', 'localhost')}:{known.get('port', 6379)}"
        )
        self.where = f"{place}/{known.get('db') or 0}"
        names = "SET_IF", "DELETE_IF", "TAKE_LOCK", "RENEW_LOCK", "FREE_LOCK"
        self._scripts = {name: self._client.register_script(getattr(scripts, name))
                         for name in names}

    def _pool_like(self, pool: Any) -> Any:
        """Make a pool that connects as another one, with our own patience."""
        taken = {name: value for name, value in pool.connection_kwargs.items() if name in _KEPT}
        for name in ("socket_timeout", "socket_connect_timeout"):
            taken[name] = self._timeout_s or taken.get(name) or TIMEOUT_S
        taken["retry"] = Retry(NoBackoff(), 0)
        taken["protocol"] = 3
        taken["connection_class"] = pool.connection_class
        if hasattr(pool, "sentinel_manager"):
            return type(pool)(pool.service_name, pool.sentinel_manager, is_master=True,
                              check_connection=True, **taken)
        return redis.ConnectionPool(**taken)

    @block
    def _asking(self) -> Iterator[None]:
        """Turn what redis-py raises into what a store raises."""
        try:
            yield
        except (redis.AuthenticationError, redis.exceptions.AuthorizationError,
                redis.exceptions.NoPermissionError) as error:
            raise StoreRefused(f"store {self.where}: {error}") from error
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raise StoreUnavailable(f"store {self.where}: {error}") from error
        except redis.ResponseError as error:
            if f"{_code_of(error)} " in _NOT_NOW:
                if isinstance(error, redis.exceptions.ReadOnlyError):
                    self._pool.disconnect(inuse_connections=False)  # it is no master any more
                raise StoreUnavailable(f"store {self.where}: {_words_of(error)}") from error
            raise StoreRefused(f"store {self.where}: {_words_of(error)}") from error
        except redis.RedisError as error:
            raise StoreUnavailable(f"store {self.where}: {error}") from error

    def _ask_again(self, ask: Callable[[], Any]) -> Any:
        """Ask what may be asked twice: a connection that lay idle may have been cut."""
        with self._asking():
            try:
                return ask()
            except redis.AuthenticationError:
                raise
            except redis.ConnectionError as error:
                if isinstance(error, redis.TimeoutError):
                    raise
                return ask()

    def get(self, name: bytes) -> Found | None:
        """Return what is under a name."""
        return self.get_many([name])[0]

    def get_many(self, names: Sequence[bytes]) -> list[Found | None]:
        """Return what is under each of these; not in one step."""
        found: list[Found | None] = []
        for piece in each(names, AT_ONCE):
            answers = self._ask_again(partial(self._look_up, piece))
            for data, left_ms in zip(answers[::2], answers[1::2], strict=True):
                # -2: it has expired between the two
                ttl_s = left_ms / 1e3 if left_ms >= 0 else None if left_ms == -1 else 0.0
                found.append(None if data is None or ttl_s == 0.0 else Found(data, ttl_s))
        return found

    def _look_up(self, names: Sequence[bytes]) -> list[Any]:
        asked = self._client.pipeline(transaction=False)
        for name in names:
            asked.execute_command("GET", name).execute_command("PTTL", name)
        return list(asked.execute())

    def set(self, name: bytes, data: bytes, ttl_s: float | None, only: str = "") -> bool:
        """Write; with `only`="absent" or "present" where that is so. Tell whether it was done."""
        words: list[Any] = ["SET", name, data]
        if ttl_s is not None:
            words += ["PX", _ms(ttl_s)]
        if only:
            words.append({"absent": "NX", "present": "XX"}[only])
        with self._asking():
            return bool(self._client.execute_command(*words))

    def set_many(self, pairs: Sequence[tuple[bytes, bytes]], ttl_s: float | None) -> None:
        """Write all of these; not in one step."""
        with self._asking():
            for piece in each(pairs, AT_ONCE):
                asked = self._client.pipeline(transaction=False)
                for name, data in piece:
                    asked.execute_command("SET", name, data,
                                          *(() if ttl_s is None else ("PX", _ms(ttl_s))))
                asked.execute()

    def set_if(
        self, name: bytes, data: bytes | None, ttl_s: float | None, version: bytes, stamped: bool
    ) -> bool:
        """Write, or remove (None), what still has a version. Tell whether it was done."""
        shown = version if stamped else version.hex().encode()
        words = ["1" if stamped else "0", shown]
        with self._asking():
            if data is None:
                return bool(self._scripts["DELETE_IF"](keys=[name], args=words))
            left = "" if ttl_s is None else "keep" if ttl_s == 0 else _ms(ttl_s)
            return bool(self._scripts["SET_IF"](keys=[name], args=[*words, data, left]))

    def delete(self, names: Sequence[bytes]) -> int:
        """Remove these; return how many were there."""
        removed = 0
        with self._asking():
            for piece in each(names, AT_ONCE):
                removed += self._client.execute_command("DEL", *piece)
        return removed

    def touch(self, name: bytes, ttl_s: float | None) -> bool:
        """Give it another time to live; tell whether it was there."""
        def ask() -> bool:
            if ttl_s is None:
                return bool(self._client.execute_command("PERSIST", name)
                            or self._client.execute_command("EXISTS", name))
            return bool(self._client.execute_command("PEXPIRE", name, _ms(ttl_s)))

        return bool(self._ask_again(ask))

    def feed(self, prefix: bytes) -> RedisFeed:
        """Begin to tell what changes under a prefix."""
        with self._asking():
            connection = self._pool.connection_class(**self._pool.connection_kwargs)
            return RedisFeed(connection, prefix, self._asking)

    def take_lock(self, name: bytes, holder: bytes, lease_s: float) -> int:
        """Take a lock for so long, and return a token greater than any before; 0: it is taken."""
        with self._asking():
            return int(self._scripts["TAKE_LOCK"](
                keys=[name + b"lock", name + b"fence"], args=[holder, _ms(lease_s)]))

    def renew_lock(self, name: bytes, holder: bytes, lease_s: float) -> bool:
        """Have the lease start anew; False: this holder has it no more."""
        return bool(self._ask_again(lambda: self._scripts["RENEW_LOCK"](
            keys=[name + b"lock"], args=[holder, _ms(lease_s)])))

    def free_lock(self, name: bytes, holder: bytes) -> bool:
        """Let it go; False: this holder has it no more."""
        with self._asking():
            return bool(self._scripts["FREE_LOCK"](keys=[name + b"lock"], args=[holder]))

    def close(self) -> None:
        """Let all connections go."""
        self._client.close()
        self._pool.disconnect()


def _ms(seconds: float) -> int:
    """Return whole milliseconds, one at least."""
    return max(1, round(seconds * 1e3))


def _words_of(error: Exception) -> str:
    """Return what the server said; redis-py takes the code off where it knows it, and says which
    command of a pipeline it was."""
    text = _OF_PIPELINE.sub("", str(error))
    return f"{_code_of(error)}: {text}" if _code_of(error) not in text else text


def _code_of(error: Exception) -> str:
    """Return the code that a server's error begins with."""
    names = {"ReadOnlyError": "READONLY", "BusyLoadingError": "LOADING", "OutOfMemoryError": "OOM",
             "NoPermissionError": "NOPERM", "ClusterDownError": "CLUSTERDOWN",
             "MasterDownError": "MASTERDOWN", "TryAgainError": "TRYAGAIN"}
    text = _OF_PIPELINE.sub("", str(error))
    return names.get(type(error).__name__) or text.partition(" ")[0].rstrip(":")
