"""Settings shared by every test: one hypothesis profile, so that a run is repeatable and not timed."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "tinyllm",
    deadline=None,  # the first example of a kernel compiles it
    max_examples=50,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("few", settings.get_profile("tinyllm"), max_examples=5)  # pytest --hypothesis-profile=few
settings.load_profile("tinyllm")
