"""What may come of an operation one of whose system calls failed.

 1. success, or a documented error: a ShmMapError, or OSError or MemoryError with that errno; of
    a command a message and an exit code. Its text names the true cause, and advises nothing
    that destroys.
 2. no crash, no hang, no other exception, also in threads.
 3. whoever uses the map finds every acknowledged entry, and goes on.
 4. nothing stays: no object of what could not be made, no descriptor, no mapping.
 5. the same operation, tried again without a failure, works.
"""

from __future__ import annotations

import os
import re

from .commands import Command
from .kinds import number_of
from .runs import Run

_PERMISSION = "permission|permitted|may not|allowed|read-only"
_CAUSES = {  # an errno's explanation, beside the system's own words for it
    "EMFILE": "descriptor|open files", "ENFILE": "descriptor|open files",
    "ENOMEM": "memory|address space", "EAGAIN": "memory|thread|try again|not free",
    "ENOSPC": "no room|no space|inodes", "EDQUOT": "quota",
    "EFBIG": "file size|ulimit -f|too large",
    "EACCES": _PERMISSION, "EPERM": _PERMISSION, "EROFS": "read-only",
    "ENOENT": "is not there|no /|missing|no map|unlinked|no boot",
    "ENOLCK": "locks", "ELOOP": "link", "EEXIST": "exists", "ESRCH": "no such process",
}
_LIES = (  # what an error must not say, but of these errnos
    (r"(?i)another user|someone else", {"EACCES", "EPERM", "EEXIST", "ELOOP"}),
    (r"(?i)(?<!or )(?<!only )have it removed|\bremove (it|them)\b(?!.*doctor)", {"ELOOP"}),
    (r"(?i)shmmap unlink|unlink the map\b", {"ENOENT"}),
    (r"(?i)/dev/shm has no room", {"ENOSPC", "EDQUOT"}),
    (r"(?i)truncated|was damaged|not ours|not a map", {"ELOOP"}),
    (r"(?i)has lost its|was unlinked", {"ENOENT"}),
    (r"(?i)belong to live processes", set()),
)
_MEMORY = {"ENOMEM", "EAGAIN", "ENOSPC"}


def faults(run: Run) -> list[str]:
    """List what is wrong with a run; of one without a failure everything that is not success."""
    found = []
    if run.died:
        found.append(f"2: {run.died}")
    if re.search(r"Traceback|Exception ignored|Fatal|unexpected error", run.stderr):
        found.append(f"2: said on stderr: {_last(run.stderr)}")
    if run.beside:
        found.append(f"3: for the other process: {run.beside}")
    report = run.report
    if report is not None:
        found += _faults_of_report(run)
        if report.wrong and not _admits(run):
            found.append(f"{3 if report.outcome else 1}: {report.wrong}")
        if report.outcome and report.holds and not run.scenario.lets_go:
            found.append(f"4: the process keeps {', '.join(report.holds[:3])}")
        if report.outcome and run.scenario.undoes and run.left and not _hindered(run):
            found.append(f"4: left {len(run.left)} objects: {', '.join(run.left[:2])}")
    if run.settled is not None:
        wrong, holds = run.settled
        if wrong:
            found.append(f"5: {wrong}")
        if holds:
            found.append(f"4: after closing, the process keeps {', '.join(holds[:3])}")
        if run.left_at_end and not wrong:
            found.append(f"4: at the end {len(run.left_at_end)} objects are left: "
                         f"{', '.join(run.left_at_end[:2])}")
    return found


def _admits(run: Run) -> bool:
    """Tell whether a command that could not see everything says so."""
    return run.injection is not None and issubclass(run.scenario, Command) and (
        os.strerror(number_of(run.injection.error)) in run.report.wrong
        or "not readable" in run.report.wrong
    )


def _hindered(run: Run) -> bool:
    """Tell whether the failing call is one that removes: then the next one has to."""
    site = run.injection.site if run.injection else None
    return site is not None and (site.call == "unlink" or run.injection.lasting)


def _faults_of_report(run: Run) -> list[str]:
    report, injection = run.report, run.injection
    assert report is not None
    if not report.outcome:
        return []
    if injection is None:
        return [f"1: {report.outcome} without any failure: {report.text}"]
    found = []
    error = injection.error
    if not _is_documented(run):
        found.append(f"1: {report.outcome}: {report.text[:200]} ({_place(report.trace)})")
    elif not _names_cause(run):
        found.append(f"1: {report.outcome} does not name the cause: {report.text[:200]!r}")
    for pattern, allowed in _LIES:
        said = re.search(pattern, report.text)
        if said and error not in allowed:
            found.append(f"1: {report.outcome} says {said[0]!r}: {report.text[:220]!r}")
            break
    return found


def _is_documented(run: Run) -> bool:
    report, injection = run.report, run.injection
    assert report is not None and injection is not None
    if report.documented:
        return True
    if report.outcome == "MemoryError":
        return injection.error in _MEMORY
    return report.number == number_of(injection.error)


def _names_cause(run: Run) -> bool:
    report, injection = run.report, run.injection
    assert report is not None and injection is not None
    if report.outcome == "MemoryError" or (
        report.number == number_of(injection.error) and not issubclass(run.scenario, Command)
    ):
        return True
    if report.outcome == "LockTimeout" and injection.site.thing.startswith("/proc"):
        return True  # a process that cannot be looked at counts as alive; the text names it
    words = re.escape(os.strerror(number_of(injection.error)))
    known = _CAUSES.get(injection.error)
    if injection.site.call == "fcntl F_SETLK" and injection.error in ("EAGAIN", "EACCES"):
        known = "held by|freed by its death: False"  # they say that another process has the lock
    return bool(re.search(f"(?i){words}" + (f"|{known}" if known else ""), report.text))


def _place(trace: str) -> str:
    """Say where an exception came from: the last line of this library in its traceback."""
    lines = re.findall(r'/shmmap/(\w+\.py)", line (\d+)', trace)
    return f"{lines[-1][0]}:{lines[-1][1]}" if lines else "not in the library"


def _last(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return " / ".join(lines[-2:])[:300]


def outcome_of(run: Run) -> str:
    """Say in a few words what the user got: for the table."""
    report, injection = run.report, run.injection
    if report is None or injection is None:
        return "it ends" if run.died else "?"
    if not report.outcome:
        return "goes on"
    if report.outcome.startswith("exit"):
        return "message, " + report.outcome.replace("exit", "exit code")
    if report.documented or report.outcome == "MemoryError":
        return f"`{report.outcome}`"
    if report.number == number_of(injection.error):
        return "`OSError`"
    return f"`{report.outcome}`"
