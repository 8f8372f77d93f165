"""Redis and Valkey as the store: one server, or the master that sentinels name.

By connections of its own, made as those of the client that it is given. None of them asks again by
itself, since a write that was asked twice may be done twice, and each has a timeout, since a wire
that is cut says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from functools import cache, partial
from hashlib import sha1
from typing import Any, NoReturn

from ..errors import StoreRefused, StoreUnavailable
from ..system.blocks import block
from ..windows import Hit, Rate
from . import redis_scripts as scripts
from .redis_rates import HIT
from .store import TIMEOUT_S, Done, Found, Given, Put, PutIf, each

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from .redis_feed import RedisFeed
    from .redis_listing import RedisListing
    from .redis_redirect import RedirectFeed, knows_no_resp3
    from .redis_sentinel import Sentinels
    from .redis_urls import is_cluster, pool_of
    from .redis_wire import Unsent, Wire
except ImportError as error:
    raise ImportError(
        'a Tiered over Redis or Valkey needs redis-py: pip install "shmmap[redis]"'
    ) from error

AT_ONCE = 1_000  # names in one message
_NOT_NOW = ("BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "READONLY", "CLUSTERDOWN",
            "TRYAGAIN", "UNKILLABLE")
_CODES = {  # which redis-py takes off
    "ReadOnlyError": "READONLY", "BusyLoadingError": "LOADING", "OutOfMemoryError": "OOM",
    "NoPermissionError": "NOPERM", "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN", "TryAgainError": "TRYAGAIN",
}
_KEPT = (  # of a client's connections: what they connect to, and as whom
    "host", "port", "path", "db", "username", "password", "credential_provider", "client_name",
    "socket_keepalive", "socket_keepalive_options", "socket_type", "socket_timeout",
    "socket_connect_timeout", "redis_connect_func", "ssl_keyfile", "ssl_certfile", "ssl_cert_reqs",
    "ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_check_hostname", "ssl_password",
    "ssl_validate_ocsp", "ssl_validate_ocsp_stapled", "ssl_ocsp_context", "ssl_ocsp_expected_cert",
    "ssl_min_version", "ssl_ciphers", "ssl_include_verify_flags", "ssl_exclude_verify_flags",
)


class RedisStore(RedisListing):
    """A store: see `store`.

    Args:
        client: a `redis.Redis` (also of `Sentinel.master_for`), or a URL, "redis://...",
            "rediss://..." or "unix://...". Only how it connects is taken from it.
        timeout: seconds that a call waits for an answer, and for a connection; None: those of the
            client, TIMEOUT_S at most.
    """

    _sentinels: Sentinels | None = None

    def __init__(self, client: Any, timeout: float | None = None) -> None:
        pool = _pool_of(client)
        kind, known = connecting(pool, timeout)
        self.timeout_s = float(known["socket_timeout"])
        self._pools: list[Any] = []
        self._kinds: dict[int, tuple[Any, Any]] = {}
        if hasattr(pool, "sentinel_manager"):
            self._sentinels = Sentinels(
                in_time(pool.sentinel_manager, known["socket_timeout"]), pool.service_name)
        for protocol in (2, 3):
            made: Any = dict(known, protocol=protocol)
            if hasattr(pool, "sentinel_manager"):  # it has each connection ask who is master
                made = type(pool)(
                    pool.service_name, self._sentinels, is_master=True,
                    check_connection=True, connection_class=kind, **made,
                )
                self._pools.append(made)  # its proxies refer to it weakly
                made = made.connection_kwargs
            self._kinds[protocol] = kind, made
        self._wire = Wire(partial(self._make, 2), self._is_current)
        place = getattr(pool, "service_name", None) or known.get("path") or (
            f"{known.get('host', 'localhost')}:{known.get('port', 6379)}"
        )
        self.where = f"{place}/{known.get('db') or 0}"

    def _is_current(self, connection: Any) -> bool:
        """Tell whether a connection is to the server that is asked now."""
        return self._sentinels is None or self._sentinels.is_current(connection)

    def _make(self, protocol: int) -> Any:
        """Make a connection."""
        if self._sentinels is not None:
            self._sentinels.start()
        kind, known = self._kinds[protocol]
        return kind(**known)

    # -- asking -------------------------------------------------------------------------

    @block
    def _asking(self) -> Iterator[None]:
        """Turn what redis-py raises into what a store raises."""
        try:
            yield
        except (redis.AuthenticationError, redis.exceptions.AuthorizationError) as error:
            raise StoreRefused(f"store {self.where}: {error}") from error
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raised = StoreUnavailable(f"store {self.where}: {error}")
            raised.was_sent = not isinstance(error, Unsent)
            raise raised from error
        except redis.ResponseError as error:
            self._refuse(error)
        except redis.RedisError as error:
            raise StoreUnavailable(f"store {self.where}: {error}") from error

    def _ask(self, *commands: Sequence[Any], again: bool = False) -> list[Any]:
        """Return the answers; raise what was refused first, once all have been read."""
        with self._asking():
            answers = self._send(*commands, again=again)
        for answer in answers:
            if isinstance(answer, redis.ResponseError):
                self._refuse(answer)
        return answers

    def _ask_pieces(self, pieces: Iterable[list[Any]]) -> list[list[Any]]:
        """Ask piece by piece. Where one of them fails, those before it were done."""
        answers: list[list[Any]] = []
        for piece in pieces:
            try:
                answers.append(self._ask(*piece))
            except StoreUnavailable as error:
                error.was_sent = error.was_sent or bool(answers)
                raise
        return answers

    def _send(self, *commands: Sequence[Any], again: bool = False) -> list[Any]:
        """Return the answers, errors among them."""
        return self._wire.ask(*commands, again=again)

    def _refuse(self, error: redis.ResponseError) -> NoReturn:
        if isinstance(error, redis.exceptions.MovedError | redis.exceptions.AskError):
            self._refuse_sent_on(error)
        code = _CODES.get(type(error).__name__) or str(error).partition(" ")[0].rstrip(":")
        text = str(error) if str(error).startswith(code) else f"{code} {error}"
        if code in _NOT_NOW:
            if code == "READONLY":
                self._lost_master()
            raise StoreUnavailable(f"store {self.where}: {text}") from error
        raise StoreRefused(f"store {self.where}: {text}") from error

    def _run(
        self, script: str, names: Sequence[bytes], *words: Any, again: bool = False
    ) -> Any:
        """Run a script; return what it returns: a number, or a list of them."""
        given = (len(names), *names, *words)
        with self._asking():
            answer = run_by(self._send, script, [given], again)[0]
        if isinstance(answer, redis.ResponseError):
            self._refuse(answer)
        return answer

    def _refuse_sent_on(self, error: redis.ResponseError) -> NoReturn:
        """Refuse what a server says that another one has."""
        raise StoreRefused(
            f"store {self.where}: it is a node of a cluster: give a client redis.RedisCluster(...) "
            'or a URL "redis+cluster://host:port,host2:port2"'
        ) from error

    def _lost_master(self) -> None:
        """A server that was written to is no master any more."""
        self._wire.drop()

    # -- what a store does --------------------------------------------------------------

    def get(self, name: bytes) -> Found | None:
        """Return what is under a name."""
        return self.get_many([name])[0]

    def get_many(self, names: Sequence[bytes]) -> list[Found | None]:
        """Return what is under each of these; not in one step."""
        found = Given()
        for piece in each(names, AT_ONCE):
            commands = [(word, name) for name in piece for word in ("GET", "PTTL")]
            answers = self._ask(*commands, again=True)
            found.given_by |= getattr(answers, "given_by", set())
            for data, left_ms in zip(answers[::2], answers[1::2], strict=True):
                # -2: it has expired between the two
                ttl_s = left_ms / 1e3 if left_ms >= 0 else None if left_ms == -1 else 0.0
                found.append(None if data is None or ttl_s == 0.0 else Found(data, ttl_s))
        return found

    def set(
        self, name: bytes, data: bytes, ttl_s: float | None, only: str = "", stamped: bool = False
    ) -> bool:
        """Write; with `only`="absent" or "present" where that is so. Tell whether it was done."""
        if only and stamped:
            left = "" if ttl_s is None else _ms(ttl_s)
            return bool(self._run(scripts.SET_ONLY, [name], only, data, left))
        more = {"": (), "absent": ("NX",), "present": ("XX",)}[only]
        return self._ask(("SET", name, data, *_life(ttl_s), *more))[0] is not None

    def set_many(self, pairs: Sequence[tuple[bytes, bytes]], ttl_s: float | None) -> None:
        """Write all of these; not in one step."""
        life = _life(ttl_s)
        commands = (("SET", name, data, *life) for name, data in pairs)
        self._ask_pieces(each(commands, AT_ONCE))

    def set_if(
        self, name: bytes, data: bytes | None, ttl_s: float | None, version: bytes, stamped: bool
    ) -> bool:
        """Write, or remove (None), what still has a version. Tell whether it was done."""
        words = ["1" if stamped else "0", version if stamped else version.hex()]
        if data is None:
            return bool(self._run(scripts.DELETE_IF, [name], *words))
        left = "" if ttl_s is None else "keep" if ttl_s == 0 else _ms(ttl_s)
        return bool(self._run(scripts.SET_IF, [name], *words, data, left))

    def delete(self, names: Sequence[bytes]) -> int:
        """Remove these; return how many were there."""
        pieces = ([("DEL", *piece)] for piece in each(names, AT_ONCE))
        return sum(answers[0] for answers in self._ask_pieces(pieces))

    def bury(self, names: Sequence[bytes], data: bytes, ttl_s: float) -> int:
        """Write a tombstone under each of these; return how many had a value."""
        given = ((1, name, data, _ms(ttl_s)) for name in names)
        return sum(
            self._number(answer) for piece in each(given, AT_ONCE)
            for answer in self._run_each(scripts.BURY, piece)
        )

    def touch(self, name: bytes, ttl_s: float | None, stamped: bool = False) -> bool:
        """Give it another time to live; tell whether it was there."""
        if stamped:
            left = "" if ttl_s is None else _ms(ttl_s)
            return bool(self._run(scripts.TOUCH, [name], left, again=True))
        if ttl_s is None:
            return any(self._ask(("PERSIST", name), ("EXISTS", name), again=True))
        return bool(self._ask(("PEXPIRE", name, _ms(ttl_s)), again=True)[0])

    def moment(self) -> Any:
        """Return the server's time, in milliseconds."""
        return ms_of(self._ask(("TIME",), again=True)[0])

    def put_latest(
        self, puts: Sequence[Put], began: Any, within_ms: int, believed_ns: int
    ) -> list[Done]:
        """Write or remove each of these; tell of each whether it was done, or why not."""
        given = [given_of(put, began, within_ms, believed_ns) for put in puts]
        answers: list[Done] = []
        for piece in each(given, AT_ONCE):
            answers += map(self._done, self._run_each(scripts.PUT_LATEST, piece))
        return answers

    def put_if(
        self, puts: Sequence[PutIf], began: Any, within_ms: int
    ) -> list[bool | None]:
        """Write each of these that still has a version; tell of each whether it was done."""
        given = [given_if(put, began, within_ms) for put in puts]
        answers: list[Done] = []
        for piece in each(given, AT_ONCE):
            answers += map(self._done, self._run_each(scripts.PUT_IF, piece))
        return none_refused(answers)

    def _number(self, answer: Any) -> int:
        """Return what a script returned; raise what was refused."""
        if isinstance(answer, redis.ResponseError):
            self._refuse(answer)
        return int(answer)

    def _run_each(self, script: str, given: Sequence[Sequence[Any]]) -> list[Any]:
        """Run a script for each; return the answers, errors among them."""
        with self._asking():
            return run_by(self._send, script, given)

    def _done(self, answer: Any) -> Done:
        """Tell what one of `put_latest` came to."""
        if isinstance(answer, redis.ResponseError):
            try:
                self._refuse(answer)
            except StoreRefused as error:
                return error
        return None if int(answer) < 0 else int(answer) > 0

    def feed(self, prefix: bytes) -> RedisFeed | RedirectFeed:
        """Begin to tell what changes under a prefix."""
        with self._asking():
            try:
                return RedisFeed(self._make(3), prefix, self._asking,
                                 is_current=self._is_current)
            except redis.RedisError as error:
                if not knows_no_resp3(error):
                    raise
            return RedirectFeed(partial(self._make, 2), prefix, self._asking)

    def take_lock(self, name: bytes, holder: bytes, lease_s: float) -> int:
        """Take a lock for so long, and return a token greater than any before; 0: it is taken."""
        names = [name + b"lock", name + b"fence"]
        return int(self._run(scripts.TAKE_LOCK, names, holder, _ms(lease_s)))

    def renew_lock(self, name: bytes, holder: bytes, lease_s: float) -> bool:
        """Have the lease start anew; False: this holder has it no more."""
        words = holder, _ms(lease_s)
        return bool(self._run(scripts.RENEW_LOCK, [name + b"lock"], *words, again=True))

    def free_lock(self, name: bytes, holder: bytes) -> bool:
        """Let it go; False: this holder has it no more."""
        return bool(self._run(scripts.FREE_LOCK, [name + b"lock"], holder))

    def hit(
        self, name: bytes, algorithm: str, rate: Rate, cost: int, more: int = 0,
        counts: bool = True,
    ) -> list[Hit]:
        """Count a hit of a rate limit, or look only: see `store`."""
        words = rate.limit, rate.per_ns // 1000, rate.burst, cost, more, int(counts)
        found = self._run(HIT[algorithm], [name], *words)
        return [
            Hit(taken, remaining, reset_us * 1000, retry_us * 1000 if retry_us > 0 else retry_us)
            for taken, remaining, reset_us, retry_us in zip(*[iter(found)] * 4, strict=True)
        ]

    def close(self) -> None:
        """Let all connections go."""
        if self._sentinels is not None:
            self._sentinels.stop()
        self._wire.drop()


def connecting(pool: Any, timeout: float | None) -> tuple[Any, dict[str, Any]]:
    """Return the class of a pool's connections, and what they are to be made with here."""
    if timeout is not None and not 0 < timeout <= 3600:
        raise ValueError(f"timeout={timeout!r} must be more than 0 seconds, and an hour at most")
    known = {name: value for name, value in pool.connection_kwargs.items() if name in _KEPT}
    for name in ("socket_timeout", "socket_connect_timeout"):
        known[name] = timeout or min(known.get(name) or TIMEOUT_S, TIMEOUT_S)
    known["retry"] = Retry(NoBackoff(), 0)
    kind = pool.connection_class
    if issubclass(kind, getattr(redis.connection, "MaintNotificationsAbstractConnection", ())):
        from redis.maint_notifications import MaintNotificationsConfig

        known["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    return kind, known


def in_time(manager: Any, timeout: float) -> Any:
    """Return a copy of a `Sentinel` that waits for each sentinel so long at most: as redis-py makes
    it, it waits for ever for one that says nothing."""
    made = copy(manager)
    made.sentinels = []
    for client in manager.sentinels:
        kind, known = connecting(client.connection_pool, None)
        for name in ("socket_timeout", "socket_connect_timeout"):
            known[name] = min(known[name], timeout)
        made.sentinels.append(redis.Redis(
            connection_pool=redis.ConnectionPool(connection_class=kind, **known)))
    return made


def store_of(client: Any, timeout: float | None) -> RedisStore:
    """Return the store that a client, or a URL, stands for."""
    if isinstance(client, redis.RedisCluster) or is_cluster(client):
        from .redis_cluster import ClusterStore

        return ClusterStore(client, timeout)
    return RedisStore(client, timeout)


def _pool_of(client: Any) -> Any:
    """Return what a client's connections are made by."""
    if isinstance(client, str):
        return pool_of(client)
    pool = getattr(client, "connection_pool", None)
    if isinstance(pool, redis.ConnectionPool) and isinstance(client, redis.Redis):
        return pool
    kind = client if isinstance(client, type) else type(client)
    cannot = ("; those for coroutines are not served" if "asyncio" in kind.__module__ else
              ": give an object, not its class" if kind is client else "")
    raise TypeError(
        "store= must be a client redis.Redis(...), also one of Sentinel.master_for(...), a "
        "redis.RedisCluster(...), a URL, or "
        f"a store of your own, not {kind.__module__}.{kind.__qualname__}{cannot}"
    )


def run_by(
    send: Callable[..., list[Any]], script: str, given: Sequence[Sequence[Any]], again: bool = False
) -> list[Any]:
    """Run a script for each, by what sends commands; return the answers, errors among them. Where
    a server does not know it, it is sent along."""
    answers = send(*(("EVALSHA", digest_of(script), *one) for one in given), again=again)
    lost = [at for at, answer in enumerate(answers)
            if isinstance(answer, redis.exceptions.NoScriptError)]
    if lost:
        found = send(*(("EVAL", script, *given[at]) for at in lost), again=again)
        for at, answer in zip(lost, found, strict=True):
            answers[at] = answer
    return answers


@cache  # of some ten
def digest_of(script: str) -> str:
    """Return what the server calls a script."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


def ms_of(time: Sequence[Any]) -> int:
    """Return the milliseconds of a server's answer to TIME."""
    return int(time[0]) * 1000 + int(time[1]) // 1000


def given_of(put: Put, began_ms: int, within_ms: int, believed_ns: int) -> tuple[Any, ...]:
    """Return what PUT_LATEST is given: how many names, the name, and the rest."""
    return (
        1, put.name, began_ms, within_ms, put.stamp, believed_ns.to_bytes(8, "big"),
        "remove" if put.data is None else "put", "" if put.ttl_s is None else _ms(put.ttl_s),
        put.data or b"",
    )


def given_if(put: PutIf, began_ms: int, within_ms: int) -> tuple[Any, ...]:
    """Return what PUT_IF is given."""
    left = "" if put.ttl_s is None else _ms(put.ttl_s)
    return 1, put.name, began_ms, within_ms, put.version, put.data, left


def none_refused(answers: list[Done]) -> list[bool | None]:
    """Return the answers; raise what was refused, or could not be asked, first."""
    done: list[bool | None] = []
    for answer in answers:
        if isinstance(answer, StoreRefused | StoreUnavailable):
            raise answer
        done.append(answer)
    return done


def _ms(seconds: float) -> int:
    """Return whole milliseconds, one at least."""
    return max(1, round(seconds * 1e3))


def _life(ttl_s: float | None) -> tuple[Any, ...]:
    """Return the words of a SET that say for how long."""
    return () if ttl_s is None else ("PX", _ms(ttl_s))
