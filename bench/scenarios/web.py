"""What does a web application get from its cache: requests a second, waits, processor time, memory?

A site (`load/flask_site.py`, `load/django_site.py`) under `gunicorn -w 4`: each request reads and
writes a session, reads a page of 2 kB (drawn in a millisecond where it is missing, and kept for a
minute), and counts. wrk asks for pages by chance, 16 at a time. "dict" is the framework's own for
one process, cachelib's SimpleCache or Django's locmem, one in each worker: what is not shared draws
each page four times, and counts wrongly. The others are shared, and their counts are verified. Only
gunicorn's stash cannot count without losing some.

Flask runs with three classes of workers, Django with sync ones.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ..core.progress import Progress
from ..core.results import Row
from ..core.scenario import Plot, Scenario, Setup, take_turns
from ..load.web_site import Served, Site
from .families import WEB

SITES = Path(__file__).parent.parent / "load"
FLASK = ("dict", "diskcache.Cache", "redis", "gunicorn stash", "shmmap")
DJANGO = ("dict", "diskcache.FanoutCache", "redis", "shmmap")


class Web(NamedTuple):
    """A site under load, with one cache after the other.

    Attributes:
        site: the file in `load/`.
        worker_class: gunicorn's.
        kinds: the caches that it can have, by their peers' names.
        needs: modules without which it cannot run.
    """

    name: str
    title: str
    site: str = "flask_site.py"
    worker_class: str = "sync"
    kinds: tuple[str, ...] = FLASK
    needs: tuple[str, ...] = ("flask", "cachelib")
    quick: bool = False
    family: str = WEB

    @property
    def plots(self) -> tuple[Plot, ...]:
        """Picture the requests a second."""
        title = self.title.partition(":")[0]
        return (Plot("", f"{title[0].upper()}{title[1:]}: requests a second", "", "per_s"),)

    def able(self, setup: Setup) -> list[str]:
        """List the caches that are asked for and can be had."""
        if shutil.which("wrk") is None or not all(map(find_spec, ("gunicorn", *self.needs))):
            return []
        there = {peer.name for peer in setup.peers}
        return [kind for kind in self.kinds if kind in there]

    def steps(self, setup: Setup) -> int:
        """Count the progress steps."""
        return setup.scale.experiment_repetitions * len(self.able(setup))

    def run(self, setup: Setup, progress: Progress) -> list[Row]:
        """Load each site in turn."""
        seconds = 4 if setup.scale.patient else 1
        lanes = (
            Site(Served(self.name, SITES / self.site, self.worker_class, kind, seconds))
            for kind in self.able(setup)
        )
        return take_turns(lanes, setup.scale.experiment_repetitions, progress)


SCENARIOS: tuple[Scenario, ...] = (
    Web("web", "a Flask site under gunicorn -w 4: requests, waits, CPU and memory by cache"),
    Web("web-gthread", "a Flask site under gunicorn -w 4 -k gthread --threads 4",
        worker_class="gthread"),
    Web("web-gevent", "a Flask site under gunicorn -w 4 -k gevent", worker_class="gevent",
        needs=("flask", "cachelib", "gevent")),
    Web("web-django", "a Django site under gunicorn -w 4: requests, waits, CPU and memory by cache",
        "django_site.py", kinds=DJANGO, needs=("django",)),
)
