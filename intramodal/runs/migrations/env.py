"""Run by alembic: applies migrations on the connection that `database.upgrade` hands over."""

from alembic import context

from intramodal.runs.schema import VERSION_TABLE, Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite cannot alter a table in place
    transactional_ddl=True,  # all or nothing; the caller's transaction is the lock
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
