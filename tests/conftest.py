"""Every test runs under gevent, as router and daemon do."""

# Before anything imports socket or ssl.
from gevent import monkey

monkey.patch_all(subprocess=False, os=False, signal=False)
