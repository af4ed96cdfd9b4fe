"""The projected vector for points that exist, from their stored vectors.

In place (`backfill`), or in a copy of the collection (`copy_with_projection`) where a store cannot
add a vector; both can be planned, checked afterwards, mended and undone.
"""

from intramodal.ingest.backfill.copying import copy_with_projection
from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.backfill.origins import (
    check_fitted_for,
    check_projectable,
    projected_origin,
)
from intramodal.ingest.backfill.plan import (
    BackfillPlan,
    MendingPlan,
    plan_backfill,
    plan_copy,
    plan_recompute,
)
from intramodal.ingest.backfill.rollback import RollbackSummary, rollback
from intramodal.ingest.backfill.summaries import BackfillSummary, CopySummary
from intramodal.ingest.backfill.verify import VerifySummary, verify_vector

__all__ = [
    "BackfillPlan",
    "BackfillSummary",
    "CopySummary",
    "MendingPlan",
    "RollbackSummary",
    "VerifySummary",
    "backfill",
    "check_fitted_for",
    "check_projectable",
    "copy_with_projection",
    "plan_backfill",
    "plan_copy",
    "plan_recompute",
    "projected_origin",
    "recompute",
    "rollback",
    "verify_vector",
]
