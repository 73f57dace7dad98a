"""People in as many pictures as there are, on all machines of a Ray cluster (extra: cluster).

:class:`FindPeople` goes into anybody's own ``Dataset.map_batches``; :func:`find_in` is a whole run with a folder of
Parquet files behind it, which survives the end of any process and goes on from there.
"""

from stagepose.cluster.find import FindPeople
from stagepose.cluster.run import Found, find_in

__all__ = ["FindPeople", "Found", "find_in"]
