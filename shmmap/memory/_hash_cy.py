# mypy: ignore-errors
"""XXH3-64 of key bytes, seeded.

The `xxhash` package gives it. Its Python call costs 26 ns and more, and needs memory, which
nobody may who holds a shard. So the compiled engine calls the C function that the package's
extension module exports, if it agrees with the Python call on test vectors; else its own one in
the .pxd, which has no vector instructions and takes longer for keys of more than 240 bytes.
Source: Y. Collet, XXH3, xxHash 0.8 specification.
"""

from __future__ import annotations

import ctypes

import xxhash

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory.layout import KEY_TYPE_SALT, WHOLE_WORD  # type: ignore[attr-defined]

COMPILED = cython.compiled
_digest = xxhash.xxh3_64_intdigest
_VECTORS = [(bytes(range(n)), seed) for n in (0, 1, 5, 16, 100, 200) for seed in (0, 2**63 + 7)]


def _c_function_address():
    """Return the address of the package's XXH3_64bits_withSeed; 0: not to be had, use ours."""
    try:
        from xxhash import _xxhash

        function = ctypes.CDLL(_xxhash.__file__).XXH3_64bits_withSeed
        function.restype = ctypes.c_uint64
        function.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64)
        agrees = [function(d, len(d), s) == _digest(d, s) for d, s in _VECTORS]
        if False not in agrees:
            return ctypes.cast(function, ctypes.c_void_p).value
    except (ImportError, OSError, AttributeError):
        pass
    return 0  # its own


if cython.compiled:
    set_hash_function(_c_function_address())  # type: ignore[name-defined]


def hash_key(data, length, key_type, seed):
    """Hash the `length` bytes of an encoded key; equal bytes of other types hash apart."""
    seed = (seed + key_type * KEY_TYPE_SALT) & WHOLE_WORD
    if cython.compiled:
        return call_hash_function(data, length, seed)  # type: ignore[name-defined]
    return _digest(data if len(data) == length else data[:length], seed)


def own_hash(data: bytes, seed: int) -> int:
    """Hash bytes as the compiled engine does where the package exports no C function."""
    if cython.compiled:
        return call_own_function(data, len(data), seed)  # type: ignore[name-defined]
    return _digest(data, seed)


def hash_of(data: bytes, key_type: int, seed: int) -> int:
    """Hash an encoded key, for Python callers."""
    return hash_key(data, len(data), key_type, seed)
