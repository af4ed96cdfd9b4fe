"""Runs, and what belongs to them.

Types are spelled out: a migration must not change when the models do.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CHILDREN = ("checkpoints", "failures", "artefacts", "metrics", "fingerprints")


def upgrade() -> None:
    _create_runs()
    _create_facts()
    _create_files_and_progress()


def downgrade() -> None:
    for table in (*CHILDREN, "runs"):
        op.drop_table(table)


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("parent", sa.String(40)),
        sa.Column("started", TIME, nullable=False),
        sa.Column("finished", TIME),
        sa.Column("heartbeat", TIME, nullable=False),
        sa.Column("heartbeat_interval_s", sa.Float()),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("process_space", sa.String(255), nullable=False),
        sa.Column("process_started", sa.String(64), nullable=False),
        sa.Column("command", sa.JSON(), nullable=False),
        sa.Column("packages", sa.JSON(), nullable=False),
        sa.Column("git", sa.JSON()),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.CheckConstraint(
            "status IN ('RUNNING', 'COMPLETE', 'FAILED', 'INTERRUPTED')",
            name=op.f("ck_runs_status"),
        ),
        sa.ForeignKeyConstraint(
            ["parent"], ["runs.id"], name=op.f("fk_runs_parent"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index(op.f("ix_runs_started"), "runs", ["started"])
    op.create_index(op.f("ix_runs_status"), "runs", ["status"])


def _create_facts() -> None:
    op.create_table(
        "fingerprints",
        *_keys("fingerprints"),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('encoder', 'projection', 'collection')", name=op.f("ck_fingerprints_kind")
        ),
        sa.UniqueConstraint("run", "kind", "name", name=op.f("uq_fingerprints_run_kind_name")),
    )
    op.create_table(
        "metrics",
        *_keys("metrics"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("vector", sa.Text()),
        sa.Column("field", sa.Text()),
        sa.Column("value", sa.Float()),
        sa.Column("low", sa.Float()),
        sa.Column("high", sa.Float()),
        sa.Column("n", sa.BigInteger()),
    )
    op.create_index(op.f("ix_metrics_run"), "metrics", ["run"])


def _create_files_and_progress() -> None:
    op.create_table(
        "artefacts",
        *_keys("artefacts"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("media_type", sa.String(100), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("run", "name", name=op.f("uq_artefacts_run_name")),
    )
    op.create_table(
        "failures",
        *_keys("failures"),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("stage", sa.String(100), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
    )
    op.create_index(op.f("ix_failures_run"), "failures", ["run"])
    op.create_table(
        "checkpoints",
        sa.Column("run", sa.String(40), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["run"], ["runs.id"], name=op.f("fk_checkpoints_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run", "key", name=op.f("pk_checkpoints")),
    )


def _keys(table: str) -> tuple[sa.schema.SchemaItem, ...]:
    return (
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("run", sa.String(40), nullable=False),
        sa.ForeignKeyConstraint(
            ["run"], ["runs.id"], name=op.f(f"fk_{table}_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    )
