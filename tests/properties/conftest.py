"""The same examples every time and everywhere: a change is to blame for a failure, not the draw."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "aosa", max_examples=25, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
settings.load_profile("aosa")
