from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services import a_namespace, delete_queues, needs

PARTITIONS = (1, 2)


@pytest.fixture
def url() -> str:
    """The URL of a RabbitMQ that others use too: queues only under `namespace`."""
    return needs("rabbitmq")


@pytest.fixture
def namespace(url: str) -> Iterator[str]:
    name = a_namespace()
    yield name
    delete_queues(name, ["default", "other"], PARTITIONS)
