"""`python -m shmmap torture`: prove on this machine that no death hurts a map.

Real processes use a map in every way there is, and are killed, stopped, forked and signalled
at random moments, while the map is replaced by one of another shape; what they had acknowledged is
compared with what the map shows.

    plan       the options              ledger   what was acknowledged, in memory that outlives
    workers    kinds of worker          own      operations on keys that one lane writes
    chaos      kills, stops, windows    shared   operations on keys that all write
    verify     what the dead left       history  calls to be checked by linearizability
    waits      how long survivors wait  heartbeat  what the machine itself delays
    replacer   replaces and unlinks     witnesses  tell whether all are in the same map
"""
