"""Real processes for tests: the gateway, the demo upstream, a faulty upstream, and an operator who changes things."""

from tests.harness.gateway import GatewayServer, Template
from tests.harness.polling import eventually
from tests.harness.redis import RedisServer
from tests.harness.upstreams import DemoServer, FaultyServer, RawServer

__all__ = ["DemoServer", "FaultyServer", "GatewayServer", "RawServer", "RedisServer", "Template", "eventually"]
