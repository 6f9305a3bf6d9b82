"""Real servers for the router's tests."""

from tests.globaldb_servers import valkey, valkey_server  # noqa: F401
