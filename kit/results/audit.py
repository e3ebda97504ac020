"""The audit of a record's operations: what a profiler saw beside what the counter saw."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from kit.results.record import Count, Seconds, UncountedOperator
from kit.track import Model

AUDIT_FILE = "audit.json"


class AuditWindow(Model):
    """One stretch of the replay, in ticks: optimizer steps, batches and evaluations, all together."""

    first: Count
    ticks: Count
    counted: dict[str, Count]
    """Operations by operator class, as the counter saw them; `declared` by rules of the submission's own."""
    profiled: dict[str, Count]
    """The same from the shapes in a profile of all threads; `declared` is what could be seen inside such operators."""
    unread: tuple[str, ...] = ()
    """Classes left out of both, because the profiler does not keep the shapes of their operators."""
    elsewhere_flops: Count
    """Of the profiled ones, on other threads than that of training and its backward passes."""
    elsewhere_calls: Count
    busy_s: Seconds
    """Inside operators, all threads together."""
    with_rule_s: Seconds
    """Of that, in operators that are counted."""
    uncounted: tuple[UncountedOperator, ...] = ()
    """`time_share` is of `busy_s`."""

    @property
    def uncounted_share(self) -> float:
        """Share of the time in operators that compute but have no rule."""
        return sum(row.time_share or 0.0 for row in self.uncounted)


class Audit(Model):
    """Written beside the record, which stays as it is."""

    schema_version: Literal[1] = 1
    record_id: str
    record_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Of the record file that was audited."""
    kit_version: str
    audited_at: AwareDatetime
    windows: tuple[AuditWindow, ...]
    disagrees_because: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether nothing speaks against the count."""
        return not self.disagrees_because
