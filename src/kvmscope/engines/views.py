"""Every view that a user's SQL may read, with its query.

The views of ``vocabulary`` show recorded data, those of ``judged_views`` the catalogue's metrics and findings.
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
"""The relations that a user's query may read."""
CLICKHOUSE_RELATIONS: Final = Relations((*VIEWS, *ROLL_UPS), RELATIONS.raw)


def view_query(name: str, store: SqlStore) -> str:
    """The query of a view of ``VIEWS``, for the statistics of a store. Raises RecordingError for a damaged document."""
    judged = JUDGED_VIEWS.get(name)
    return judged(store) if judged else RECORDED_VIEWS[name](store.vocabulary, SPELLINGS[store.dialect])
