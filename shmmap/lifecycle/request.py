"""How a map is asked for: what a handle was opened with, and what follows where a map differs."""

from __future__ import annotations

import warnings
from typing import NamedTuple

from ..checks import shown
from ..errors import ConfigMismatch, MapMismatchWarning
from ..frames import level_of_user
from ..values import codecs
from .parameters import Parameters, argument, as_text

ON_MISMATCH = ("attach", "raise", "resize", "replace")
AS_IT_IS = "as it is"  # without a word: no user's choice
ON_UNLINKED = ("reopen", "raise")
_OF_HANDLE = frozenset(("ttl_ns", "max_age_ns", "sweep_ns"))  # the map's are for who says none
SHAPE = ("shards", "size", "capacity", "value_size", "key_size", "on_full")
"""The parameters that `resize` changes."""
_PROMISES = frozenset(("codec", "mode", "hash_seed"))  # of safety, or what a dump relies on
_told: set[tuple[str, int, str]] = set()  # of which maps, by name and nonce, this process has
# warned, and of what


class Request(NamedTuple):
    """What a user asks for who opens a map."""

    name: str
    wanted: Parameters
    may_create: bool = True
    may_attach: bool = True
    nonce: int | None = None  # that creation of the name, and no other
    owner_uid: int | None = None
    on_mismatch: str = "attach"
    on_unlinked: str = "raise"
    fresh: bool = False  # whatever map there is, a new one takes its name in the same step
    auto_shards: object = None  # an AutoShards

    def again(self, former: Parameters) -> Request:
        """Return what is asked for where the map was unlinked: the one that has the name now, as
        it is; if there is none, one like the former, but for what the user said."""
        said = {field: value for field, value in self.wanted._asdict().items() if value is not None}
        if said.keys() & {"size", "capacity"}:  # one decides the other
            former = former._replace(size=None, capacity=None)
        if said.keys() & {"size", "capacity", "value_size", "key_size"}:
            former = former._replace(shards=None)
        wanted = former._replace(**said)._replace(hash_seed=None)
        return self._replace(wanted=wanted, may_create=True, may_attach=True, nonce=None,
                             on_mismatch=AS_IT_IS, fresh=False)


def check_choices(on_mismatch: object, on_unlinked: object) -> tuple[str, str]:
    """Refuse what is none of the choices; return both."""
    for what, said, choices in (
        ("on_mismatch", on_mismatch, ON_MISMATCH), ("on_unlinked", on_unlinked, ON_UNLINKED)
    ):
        if said not in choices:
            raise ValueError(f"{what}={shown(said)} must be one of {', '.join(map(repr, choices))}")
    return str(on_mismatch), str(on_unlinked)


def differences(wanted: Parameters, actual: Parameters, fields: frozenset[str]) -> list[str]:
    """List in which of some parameters a map has something else than was said."""
    found = []
    for field, said, has in zip(wanted._fields, wanted, actual, strict=True):
        if field in fields and said is not None and said != has:
            asked, there = as_text(field, said), as_text(field, has)
            found.append(
                f"{argument(field)}: asked {asked}, "
                + ("it was made without one" if there in (None, "") else f"it has {there}")
            )
    return found


def differs(request: Request, actual: Parameters, nonce: int) -> bool:
    """Compare a map with what is asked; tell whether it is to be replaced.

    Raises:
        ConfigMismatch: a promise would be broken, or the user wants to hear of any difference.
    """
    name, wanted = request.name, request.wanted
    broken = differences(wanted, actual, _PROMISES)
    if wanted.codec is None and actual.codec not in codecs.BUILT_IN:
        broken.append(f"codec: it has {actual.codec}, and no object of that name was given")
    if broken:
        raise ConfigMismatch(
            f"map {name!r} exists with other promises than asked ({'; '.join(broken)}); they hold "
            "for all who use it. Leave them out to attach to it as it is, or use another name"
        )
    shape = differences(wanted, actual, frozenset(wanted._fields) - _PROMISES - _OF_HANDLE)
    if not shape or request.on_mismatch == AS_IT_IS or request.nonce is not None:
        return False  # by nonce: a pickled handle, told of when it was opened
    if request.on_mismatch == "replace":
        return True
    rest = differences(wanted, actual, frozenset(("ephemeral", "linger_ns", "tombstones_ns")))
    if request.on_mismatch == "resize" and len(rest) < len(shape):
        if rest:
            warn_once(name, nonce, f"map {name!r} exists with another shape than asked. This stays "
                      f"as it is when it is resized: {'; '.join(rest)}", "resize")
        return True
    what = f"map {name!r} exists with another shape than asked ({'; '.join(shape)})"
    how = "replace" if rest else "resize"
    change = f'To change it, and keep its entries, open it once with on_mismatch="{how}"'
    if options := as_options(wanted, actual):
        change += f", or run: python -m shmmap {how} {name} {options}"
    if request.on_mismatch == "raise":
        raise ConfigMismatch(f"{what}. Leave these out to attach to it as it is. {change}")
    warn_once(name, nonce, f"{what}. It is used as it is. {change}")
    return False


def warn_once(name: str, nonce: int, text: str, about: str = "") -> None:
    """Warn of a map, unless this process has warned of that."""
    if (name, nonce, about) not in _told:
        _told.add((name, nonce, about))
        warn(text)


def warn(text: str) -> None:
    """Say where the user opens a map that it is not as was asked."""
    warnings.warn(text, MapMismatchWarning, stacklevel=level_of_user())


def as_options(wanted: Parameters, actual: Parameters) -> str:
    """Return the differences as options of `shmmap resize`, and `replace`, as far as they have
    any for them."""
    pairs = zip(wanted._fields, wanted, actual, strict=True)
    return " ".join([
        f"--{field.replace('_', '-')}={said}" for field, said, has in pairs
        if field in SHAPE and said is not None and said != has
    ])
