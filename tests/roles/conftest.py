"""Real servers for the roles that use globaldb."""

from tests.globaldb_servers import (  # noqa: F401
    common_server,
    globaldb_server,
    globaldb_url,
    proxy,
    redis_server,
    valkey,
    valkey_server,
)
