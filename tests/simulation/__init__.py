"""The real hub, real Python clients and real executors on one loop, whose time and dice follow from a seed.

``python -m tests.simulation --seeds 2000``; a seed that finds something says how it is run again. From below:

- ``loop``: virtual time, seeded dice, and processes that can be killed in the middle of anything;
- ``network``: the ways of connections and wires, which take their time, are held up and cut;
- ``connection``, ``executors``, ``hub``: what is in the place of sockets, processes and the hosting of a hub;
- ``jobs_disk``: the disk that a hub's jobs are on; ``jobs``: who makes them, and their rules;
- ``world``: all of one run. Its hub is one of possibly several: nothing below knows how many there are;
- ``faults``, ``states``: what breaks, and what it meets;
- ``leftovers``, ``run``, ``coverage``: the judgement, which is that of ``tests/faults/recorder``, and some more;
- ``planted``: bugs that have to be found.

What clients do, what they write down and the rules are those of ``tests/faults/recorder``, which does the same with
real processes and sockets.
"""
