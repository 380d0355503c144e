from concurrent.futures import ThreadPoolExecutor

import pytest


@pytest.fixture
def pool():
    """Two threads, for what shares its work among some."""
    with ThreadPoolExecutor(2) as threads:
        yield threads
