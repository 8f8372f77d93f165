"""Faults planted in how maps are made and how the dead are told from the living."""

from __future__ import annotations

from shmmap.lifecycle import control, ephemeral, lingering, making, opening, reaping
from shmmap.lifecycle.attachment import Attachment
from shmmap.lifecycle.control import Remains
from shmmap.system import creation
from shmmap.system.liveness import Judge
from shmmap.system.worker_table import Worker

from .mutant import Mutant, change, drop

RETIRED = '        attachment.control.STATE = K["STATE_RETIRED"]\n'
READY = '        control.STATE = K["STATE_READY"]\n'
PUBLISH = "        segment.publish(label, segment.control_name(name))\n"
CHECKED = '        control.CHECK = checksum(control.words)\n'

CREATION = (
    Mutant("the creation lock excludes nobody", (
        change(creation, "_wait_for_byte", "if try_lock_byte(turn.descriptor, byte):", "if True:"),
    ), "an ephemeral map, the last leaves as one comes", "every 2"),
    Mutant("published before every part is made", (
        change(making, "_fill", "        leases = ", READY + PUBLISH + "        leases = "),
    ), "two open", "deaths 0"),
    Mutant("published over what has the name", (
        change(making, "_try_to_make",
               "if segment.publish(attempt.label, segment.control_name(name)):",
               "if os.files.pop(segment.control_name(name)[1:], 0) or segment.publish(\n"
               "                attempt.label, segment.control_name(name)):"),
        change(creation, "_wait_for_byte", "if try_lock_byte(turn.descriptor, byte):", "if True:"),
    ), "two open", "every 1"),
    Mutant("the names of parts are noted after they are made", (
        change(making, "control_words", "    draft.NONCE = nonce\n", ""),
        change(making, "_fill", READY, "        control.NONCE = nonce\n" + CHECKED + READY),
    ), "two open", "deaths 0"),
    Mutant("what a dead maker left stays", (
        change(making, "_remove_dead", "        size = geometry", "        return False\n"
               "        size = geometry"),
    ), "two open", "deaths 0"),
    Mutant("what a live maker makes is taken for a dead one's", (
        change(making, "_lock", "fcntl.flock(", "(lambda *_: None)("),
        change(creation, "_wait_for_byte", "if try_lock_byte(turn.descriptor, byte):", "if True:"),
    ), "two open", "every 2"),
    Mutant("what is replaced is not marked", (
        change(Remains, "remove", 'self._control.STATE = K["STATE_RETIRED"]', "pass"),
    ), "an ephemeral map, replaced under a forked child", "every 1"),
    Mutant("an heir's descriptor counts for nothing", (
        drop(Judge, "is_abandoned", "self.file.try_flock() and "),
    ), "an ephemeral map, kept by a forked child", "every 1"),
    Mutant("retired after its parts are gone", (
        change(opening, "retire", RETIRED, "", "        undo.settle()\n",
               "        undo.settle()\n" + RETIRED),
    ), "one unlinks, another uses it", "deaths 0"),
    Mutant("the last leaves without the creation lock", (
        change(opening, "_lock_of", "if attachment.parameters.ephemeral", "if False"),
    ), "an ephemeral map, the last leaves as one comes", "every 2"),
    Mutant("whoever leaves is the last", (
        change(Attachment, "leave", "if ephemeral.is_last(self):",
               "if ephemeral.is_last(self) or True:"),
    ), "an ephemeral map, two come and go", "every 1"),
    Mutant("a map that lingers goes with its last worker", (
        change(ephemeral, "leave_last", "if attached.parameters.linger_ns:", "if False:"),
    ), "a map that lingers, the last leaves as one comes", "every 1"),
    Mutant("what lingers is taken for dead", (
        change(lingering, "stays", "    if not linger_ns:", "    if True:"),
    ), "a map that lingers, two come and go, one looks for what is over", "every 1"),
    Mutant("who was left once is left for good", (
        change(lingering, "left_ns", "left if left >= joined_ns(control) else 0", "left"),
    ), "a map that lingers, left, opened again and killed", "every 0"),
    Mutant("whoever leaves a map that lingers is the last", (
        change(Attachment, "leave", "if ephemeral.is_last(self):",
               "if ephemeral.is_last(self) or True:"),
    ), "a map that lingers, one leaves, the other is killed", "every 0"),
    Mutant("the time of a map that is used counts", (
        drop(reaping, "_note", " and not control.is_used(name, control.MODE, None)"),
    ), "a map that lingers, looked at while it is used", "every 0"),
    Mutant("a descriptor of the liveness file is closed", (
        drop(control, "_verify", " and control.NONCE not in attached"),
        change(opening, "_known", "if known == name", "if known != name"),
    ), "an ephemeral map, opened twice by one process", "every 2"),
    Mutant("who has no liveness lock is dead", (
        drop(Judge, "_lives", " or self._process_lives(row)"),
    ), "a holder has lost its liveness lock", "every 2"),
    Mutant("a row without a liveness lock is cleared", (
        change(Judge, "clear_dead_rows", "not self._process_lives(row)", "True"),
    ), "a holder has lost its liveness lock, a child comes", "every 2"),
    Mutant("a row without a liveness lock is claimed", (
        change(Worker, "_choose", "if self._process_lives(row)", "if False"),
    ), "a holder has lost its liveness lock, a child comes", "every 2"),
    Mutant("dead is whose pid is not there", (
        change(Judge, "_process_lives",
               "if not is_same_start(ticks, self._get(row, RowWords.START_TICKS))", "if False"),
    ), "the dead's pid is used again", "deaths 0"),
    Mutant("a token is judged by its row alone", (
        drop(Judge, "is_dead", " or self._get(row, RowWords.INCARNATION) != incarnation"),
    ), "the dead's row is used again", "deaths 0"),
    Mutant("incarnations do not rise", (
        change(Worker, "_choose", "(self._get(row, RowWords.INCARNATION) + 1)", "1"),
    ), "the dead's row is used again", "deaths 0"),
    Mutant("rows are claimed without their lock", (
        change(Worker, "_choose", "if not self.file.try_lock(row_byte(row)):",
               "if self.file.try_lock(row_byte(row)) and False:"),
    ), "two forked children come", "every 1"),
)
