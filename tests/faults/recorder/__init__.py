"""A recorder in the manner of Jepsen: seeded clients, seeded faults, and a checker that reads what was written down.

``python -m tests.faults.recorder --seed 7 --seconds 60 --clients 4``. Its files: ``history`` is what is written,
``checker`` judges it, offline, by ``call_rules`` and ``event_rules``; ``workload`` (and ``workload.mjs``) are the
clients, ``nemesis`` breaks things, ``run`` does it all together.
"""
