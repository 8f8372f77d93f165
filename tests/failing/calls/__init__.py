"""Failing system calls: each call of each scenario fails once, with each errno it can have.

    injector    stops a process at each of its system calls (seccomp), and lets it fail
    kinds       which calls, what each is about, with which errno each can fail
    scenarios   what is done while a call fails: lives, operations, commands
    companion   a process that uses the map meanwhile
    runs        one run of a scenario, watched from outside
    subject     runs a scenario in a process of its own, and reports what came of it
    judge       what may come of it
    table       what the user gets, for the docs
"""
