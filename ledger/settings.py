"""The ledger's settings: number of items, duration, and how long to wait for them."""

from demo.environment import LoadSettings, setting


class LedgerSettings(LoadSettings):
    """Read from the environment; every limit has a value."""

    seconds: float = setting(
        30.0, "LEDGER_SECONDS", "How long items are created.",
        "a number of seconds above 0, up to 86400", gt=0, le=86_400,
    )  # fmt: skip
    rate: float = setting(
        100.0, "LEDGER_RATE", "Number of items of each kind created per second.",
        "a number above 0, up to 2000", gt=0, le=2000,
    )  # fmt: skip
    late: float = setting(
        5.0, "LEDGER_LATE", "Seconds after which a found item counts as late.",
        "a number of seconds above 0, up to 3600", gt=0, le=3600,
    )  # fmt: skip
    patience: float = setting(
        60.0, "LEDGER_PATIENCE", "How long to wait for the last items, in seconds.",
        "a number of seconds above 0, up to 3600", gt=0, le=3600,
    )  # fmt: skip
