"""In place of pytest-xprocess, which the projects' own tests import for servers that none of those
that are run here needs."""


class ProcessStarter:
    """What they derive theirs from."""
