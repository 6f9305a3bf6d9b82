"""Real servers for the tests of the SDKs, and the example server in every language."""

import pytest

from tests.globaldb_servers import common_server, valkey, valkey_server  # noqa: F401
from tests.sdk.servers import CONFORMING, Implementation


@pytest.fixture(scope="session", params=CONFORMING, ids=lambda each: each.name)
def command(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """How to start the example server; built once per session."""
    each: Implementation = request.param
    return each.build(tmp_path_factory.mktemp(each.name))
