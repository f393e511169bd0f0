"""A choice among the tests that a class inherits."""

from collections.abc import Callable, Set


def run_only(names: Set[str]) -> Callable[[type], type]:
    """Return a decorator of a class that inherits no tests but these."""

    def remove(tests: type) -> type:
        inherited = {name for name in dir(tests) if name.startswith("test")}
        assert names <= inherited
        for name in inherited - names:
            setattr(tests, name, None)
        return tests

    return remove
