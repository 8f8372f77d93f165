"""The names of maps: NAME, or NAMESPACE@NAME, so that two services that both say "cache" do not
meet. Everything below `map.py` knows the full name only: it is what the files in /dev/shm have.

A name, and a namespace, has none of `@` (which is between them), `.` (which is between the pieces
of the names of a map's files) and `/`.
"""

from __future__ import annotations

import os
import re

VARIABLE = "SHMMAP_NAMESPACE"  # of the environment: the namespace of whoever says none
PATTERN = r"(?:[A-Za-z0-9_-]{1,50}@)?[A-Za-z0-9_-]{1,100}"  # of a full name
_SEPARATOR = "@"
_FULL = re.compile(PATTERN)
_NAMESPACE = re.compile(r"[A-Za-z0-9_-]{1,50}")


def check_name(name: object) -> str:
    """Refuse what cannot be a map's full name. Give the characters of one that is of a subclass of
    str, an enum's say: formatted as it is it might read otherwise."""
    if not isinstance(name, str):
        raise TypeError(f"a map's name must be a str, not {type(name).__name__}")
    name = str.__str__(name)
    if not _FULL.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be a map's name: use 1 to 100 of the characters A-Z a-z 0-9 _ - "
            "(no dot and no slash: names of a map's parts are made with them), after NAMESPACE@ "
            "or not"
        )
    return name


def full_name(name: object, namespace: object = None) -> str:
    """Return the full name of a map, from the arguments that say it.

    `namespace`: None: that of the environment, if it has one; "": none, whatever the environment
    says. A name that says its namespace itself is taken as it is.
    """
    full = check_name(name)
    said = _check_namespace(namespace, "namespace=")
    if _SEPARATOR in full:
        if said is not None and said != namespace_of(full):
            raise ValueError(
                f"the name {full!r} says its namespace already, namespace={said!r} says another: "
                "leave one of them out"
            )
        return full
    if said is None:
        said = _check_namespace(os.environ.get(VARIABLE), f"the environment's {VARIABLE}=")
    return f"{said}{_SEPARATOR}{full}" if said else full


def _check_namespace(namespace: object, where: str) -> str | None:
    """Refuse what cannot be a namespace, and say where it was said."""
    if namespace is None:
        return None
    if not isinstance(namespace, str):
        raise TypeError(f"{where} must be a str or None, not {type(namespace).__name__}")
    namespace = str.__str__(namespace)
    if namespace and not _NAMESPACE.fullmatch(namespace):
        raise ValueError(
            f"{where}{namespace!r} cannot be a namespace: use 1 to 50 of the characters A-Z a-z "
            '0-9 _ -, or "" for none'
        )
    return namespace


def namespace_of(full: str) -> str:
    """Return the namespace of a full name; "": it has none.

    >>> namespace_of("shop@cache"), namespace_of("cache")
    ('shop', '')
    """
    return full.rpartition(_SEPARATOR)[0]


class Named:
    """What has a full name."""

    name: str

    @property
    def namespace(self) -> str:
        """The namespace in the map's name; "": it has none."""
        return namespace_of(self.name)


def in_order(full: str) -> tuple[str, str]:
    """Return what full names are sorted by: maps of one namespace are together."""
    return namespace_of(full), full
