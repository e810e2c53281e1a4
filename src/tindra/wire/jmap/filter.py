"""Filters: FilterOperators around the FilterConditions of a type (RFC 8620 s5.5); pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from tindra.base import limits
from tindra.wire.jmap.date import parse_utc_date

FILTER_DEPTH_MAX: Final = 20
"""Operators inside each other: above any client, below the stack."""
T = TypeVar("T")
Match = Callable[[dict[str, Any]], bool]


class Condition(NamedTuple):
    """One property of a FilterCondition: which values it takes, and what they match."""

    takes: Callable[[Any], bool]
    """`is_text`, `is_bool` ... below."""
    matches: Callable[[dict[str, Any], Any], bool]
    """Whether an object (with its id) matches a value that was taken."""


class FilterError(Exception):
    """The filter is refused; `kind` is the type of the MethodError that it becomes."""

    def __init__(self, kind: str, description: str) -> None:
        super().__init__(description)
        self.kind = kind


def fold_filter(
    filter: Any,
    leaf: Callable[[dict[str, Any]], T],
    join: Callable[[str, list[T]], T],
    depth: int = 0,
    budget: list[int] | None = None,
) -> T:
    """What `leaf` makes of each FilterCondition, put together by `join` for each operator.

    Args:
        join: takes "AND", "OR" or "NOT" and what became of the conditions.
    Raises: FilterError invalidArguments; unsupportedFilter for more than FILTER_CONDITIONS_MAX
        conditions and operators; what `leaf` raises.
    Source: RFC 8620 s5.5
    """
    budget = [limits.FILTER_CONDITIONS_MAX] if budget is None else budget
    budget[0] -= 1
    if not isinstance(filter, dict):
        raise FilterError("invalidArguments", "a filter must be an object")
    if budget[0] < 0 or depth > FILTER_DEPTH_MAX:
        raise FilterError("unsupportedFilter", "the filter is too large")
    if "operator" not in filter:
        return leaf(filter)
    unknown = sorted(filter.keys() - {"operator", "conditions"})
    if unknown:
        raise FilterError("invalidArguments", f"a FilterOperator has no {unknown[0][:60]!r}")
    operator, conditions = filter["operator"], filter.get("conditions")
    if operator not in ("AND", "OR", "NOT") or not isinstance(conditions, list):
        text = "a FilterOperator needs an operator AND, OR or NOT, and conditions"
        raise FilterError("invalidArguments", text)
    return join(operator, [fold_filter(c, leaf, join, depth + 1, budget) for c in conditions])


def is_text(value: Any) -> bool:
    """A String."""
    return isinstance(value, str)


def is_text_or_null(value: Any) -> bool:
    """A String or null."""
    return isinstance(value, str | None)


def is_bool(value: Any) -> bool:
    """A Boolean."""
    return isinstance(value, bool)


def is_ids(value: Any) -> bool:
    """A list of ids, or of texts that may turn out to be none."""
    return isinstance(value, list) and all(isinstance(id, str) for id in value)


def is_date(value: Any) -> bool:
    """A UTCDate."""
    return parse_utc_date(value) is not None


def is_date_or_null(value: Any) -> bool:
    """A UTCDate or null."""
    return value is None or is_date(value)


def plan_filter(filter: Any, rules: Mapping[str, Condition]) -> Match:
    """A predicate from a filter, or from null, which all objects match.

    Raises: FilterError invalidArguments, unsupportedFilter.
    """

    def leaf(condition: dict[str, Any]) -> Match:
        for name, value in condition.items():
            if name not in rules:
                raise FilterError("unsupportedFilter", f"there is no filter {name[:60]!r}")
            if not rules[name].takes(value):
                raise FilterError("invalidArguments", f"filter {name!r} does not take this value")
        return lambda obj: all(rules[name].matches(obj, v) for name, v in condition.items())

    def join(operator: str, parts: list[Match]) -> Match:
        if operator == "AND":
            return lambda obj: all(part(obj) for part in parts)
        is_wanted = operator == "OR"
        return lambda obj: any(part(obj) for part in parts) is is_wanted

    return fold_filter({} if filter is None else filter, leaf, join)
