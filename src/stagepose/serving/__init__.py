"""``stagepose serve`` (extra: serve): an HTTP API and one web page. Only its command imports it.

server.py listens, guard.py and body.py check requests, app.py has the paths, pool.py hands each picture to a process of
worker.py, and wire.py is the protocol between the two.
"""
