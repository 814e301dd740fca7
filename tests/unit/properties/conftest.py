"""Settings of Hypothesis: the same examples on every machine, few, and without a deadline."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "bounded",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=100,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("bounded")
