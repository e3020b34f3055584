"""What a gateway's metrics say, as a scraper reads them."""

from prometheus_client.parser import text_string_to_metric_families

from tests.harness.gateway import GatewayServer


def samples(server: GatewayServer, key: str) -> dict[tuple[str, ...], float]:
    """Values by name and labels; empty while the key does not count yet."""
    answer = server.request("GET", "/metrics/prometheus", headers={"authorization": f"Bearer {key}"})
    if answer.status != 200:
        return {}
    found = [one for family in text_string_to_metric_families(answer.body.decode()) for one in family.samples]
    return {(one.name, *one.labels.values()): one.value for one in found}
