"""``stagepose serve`` (extra: serve): an HTTP API and one web page. An end: only its command imports it.

server.py listens, guard.py and body.py judge what comes in, app.py has the paths, pool.py hands each picture to a
process of worker.py, and wire.py is what the two say to each other.
"""
