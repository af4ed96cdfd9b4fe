"""A schema of its own on the PostgreSQL that ``INTRAMODAL_TEST_DB_URL`` names."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, make_url, text

VARIABLE = "INTRAMODAL_TEST_DB_URL"


@contextmanager
def postgres_schema() -> Iterator[str]:
    """Yield the URL of a fresh schema, and drop it with all that is in it."""
    server = make_url(os.environ[VARIABLE])
    schema = f"intramodal_test_{uuid.uuid4().hex}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    own = server.update_query_dict({"options": f"-csearch_path={schema}"})
    try:
        yield own.render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()
