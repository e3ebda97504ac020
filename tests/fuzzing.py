"""Many generated inputs for one function."""

from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

Input = TypeVar("Input")


def fuzz(function: Callable[[Input], None], inputs: SearchStrategy[Input], amount: int) -> None:
    """Call the function with so many inputs; its failure is shown with the smallest that makes it fail."""
    seen = 0

    def one(value: Input) -> None:
        nonlocal seen
        seen += 1
        function(value)

    chosen = settings(max_examples=amount, deadline=None, suppress_health_check=list(HealthCheck))
    chosen(given(inputs)(one))()
    assert seen >= amount
