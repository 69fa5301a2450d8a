"""Every view that a user's SQL may read, and the query that each is.

Those of ``vocabulary`` say what was recorded, those of ``judged_views`` what the catalogue says of it.
"""

from __future__ import annotations

from typing import Final

from .engine import SqlStore
from .guard import Relations
from .judged_views import JUDGED_VIEWS
from .raw_columns import EPISODES
from .spelling import SPELLINGS
from .tables import RawTable
from .vocabulary import RECORDED_VIEWS, ROLL_UPS

VIEWS: Final = (*RECORDED_VIEWS, *JUDGED_VIEWS)
RELATIONS: Final = Relations(VIEWS, (*(table.value for table in RawTable), EPISODES))
"""What a query may read."""
CLICKHOUSE_RELATIONS: Final = Relations((*VIEWS, *ROLL_UPS), RELATIONS.raw)


def view_query(name: str, store: SqlStore) -> str:
    """What a view of ``VIEWS`` reads, for the statistics that a store has. RecordingError for a damaged document."""
    judged = JUDGED_VIEWS.get(name)
    return judged(store) if judged else RECORDED_VIEWS[name](store.vocabulary, SPELLINGS[store.dialect])
