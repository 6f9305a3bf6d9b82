"""Daemon: one per machine; starts, stops and watches its processes, serves admins, obeys other daemons."""
