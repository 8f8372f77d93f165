"""Faults planted in how maps are made and how the dead are told from the living."""

from __future__ import annotations

from shmmap import attachment, control, creation
from shmmap.workers import Worker

from .mutants import Mutant, change, drop

READY = '    control["STATE"] = K["STATE_READY"]\n'
RETIRED = '            attachment.control["STATE"] = K["STATE_RETIRED"]\n'

CREATION_MUTANTS = (
    Mutant("O_CREX alone elects the creator", (
        change(creation, "_wait_for_byte", "while not try_lock_byte(descriptor, byte):",
               "while False:"),
    ), "two open", "every 1"),
    Mutant("ready before every part is made", (
        change(attachment, "create_objects", "    " + READY, "",
               "        segment.create(segment.liveness",
               "    " + READY + "        segment.create(segment.liveness"),
    ), "two open", "deaths 0"),
    Mutant("the magic number comes first", (
        change(attachment, "create_objects", '        control["MAGIC"] = K["CONTROL_MAGIC"]\n', "",
               "    try:\n", '    try:\n        control["MAGIC"] = K["CONTROL_MAGIC"]\n'),
    ), "two open", "deaths 0"),
    Mutant("what a dead creator left stays", (
        change(attachment, "create_objects", "    remove_objects(name)\n    size", "    size"),
    ), "two open", "deaths 0"),
    Mutant("what is replaced is not marked", (
        drop(attachment, "create_objects", "    _retire_leftover(name, wanted.mode)\n"),
    ), "an ephemeral map, replaced under a forked child", "every 1"),
    Mutant("retired after its parts are gone", (
        change(attachment, "retire", RETIRED, "", "remove_objects(attachment.name)\n",
               "remove_objects(attachment.name)\n" + RETIRED),
    ), "one unlinks, another uses it", "deaths 0"),
    Mutant("the last leaves without the creation lock", (
        change(attachment, "release", "with creation.creation_lock(attachment.name):", "if True:"),
    ), "an ephemeral map, the last leaves as one comes", "every 2"),
    Mutant("whoever leaves is the last", (
        drop(attachment.Attachment, "leave",
             "\n        and not [row for row, _ in self.worker.rows_in_use() "
             "if row != self.worker.row]"),
    ), "an ephemeral map, two come and go", "every 1"),
    Mutant("a descriptor of the liveness file is closed", (
        drop(control, "_verify", ' and control["NONCE"] not in attached'),
    ), "an ephemeral map, opened twice by one process", "every 2"),
    Mutant("who has no liveness lock is dead", (
        change(Worker, "is_dead", "return not self._process_lives(row)", "return True"),
    ), "a holder has lost its liveness lock", "every 2"),
    Mutant("a row without a liveness lock is cleared", (
        change(Worker, "clear_dead_rows", "not self._process_lives(row)", "True"),
    ), "a holder has lost its liveness lock, a child comes", "every 2"),
    Mutant("a row without a liveness lock is claimed", (
        change(Worker, "join", "if self._process_lives(row)", "if False"),
    ), "a holder has lost its liveness lock, a child comes", "every 2"),
    Mutant("dead is whose pid is not there", (
        change(Worker, "_process_lives", 'start_ticks(pid) == self._get(row, "START_TICKS")',
               "start_ticks(pid) is not None"),
    ), "the dead's pid is used again", "deaths 0"),
    Mutant("a token is judged by its row alone", (
        drop(Worker, "is_dead", ' or self._get(row, "INCARNATION") != incarnation'),
    ), "the dead's row is used again", "deaths 0"),
    Mutant("incarnations do not rise", (
        change(Worker, "join", '(self._get(row, "INCARNATION") + 1)', "1"),
    ), "the dead's row is used again", "deaths 0"),
    Mutant("rows are claimed without their lock", (
        change(Worker, "join", "if not creation.try_lock_byte(self.descriptor, row):",
               "if creation.try_lock_byte(self.descriptor, row) and False:"),
    ), "two forked children come", "every 1"),
)
