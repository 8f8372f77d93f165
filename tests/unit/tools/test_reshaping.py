"""shmmap replace: a map of another shape takes a map's name and its entries."""

from __future__ import annotations

import pytest

import shmmap


def test_the_entries_are_in_a_map_of_the_new_shape(shell, make, name):
    m = make(size="1MB", shards=2)
    m.update({number: number for number in range(100)})
    done = shell(f"replace {name} --size=2MB --shards=4 --on-full=evict --value-size=50")
    assert (done.returncode, done.stderr) == (0, "") and "100 entries" in done.stdout
    assert dict(m) == {number: number for number in range(100)}
    assert (m.size, m.parameters["shards"], m.on_full, m.value_size) == (2 * 10**6, 4, "evict", 50)
    done = shell(f"replace {name} --size=2MB")
    assert done.returncode == 0 and "has this shape already" in done.stdout


@pytest.mark.parametrize(("options", "said"), [
    ("", "say what is to be different"), ("--size=x", "is not a size"),
    ("--size=1MB --capacity=5", "not both"), ("--shards=3", "power of two"),
    ("--size=1000", "size"),
])  # fmt: skip
def test_what_makes_no_shape_changes_nothing(shell, make, name, options, said):
    make(size="1MB")["a"] = 1
    done = shell(f"replace {name} {options}")
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert shmmap.ShmMap(name)["a"] == 1


def test_no_map_and_an_ephemeral_one(shell, make, name):
    done = shell(f"replace {name} --size=1MB")
    assert done.returncode == 1 and "no map" in done.stderr
    make(ephemeral=True)["a"] = 1
    done = shell(f"replace {name} --size=2MB")
    assert done.returncode == 1 and 'on_mismatch="replace"' in done.stderr


def test_where_there_is_no_room_nothing_changes(shell, make, name):
    m = make(size="1MB")
    m["a"] = 1
    done = shell(f"replace {name} --size=900GB")
    assert done.returncode == 1 and "was not replaced" in done.stderr
    assert m["a"] == 1 and m.size == 10**6
