"""The ledger's settings: how much is sent, for how long, and how long it is waited for."""

from demo.environment import LoadSettings, setting


class LedgerSettings(LoadSettings):
    """Read from the environment; every bound has a value."""

    seconds: float = setting(
        30.0, "LEDGER_SECONDS", "For how long items are made.",
        "a number of seconds above 0, up to 86400", gt=0, le=86_400,
    )  # fmt: skip
    rate: float = setting(
        100.0, "LEDGER_RATE", "How many of each kind are made in a second.",
        "a number above 0, up to 2000", gt=0, le=2000,
    )  # fmt: skip
    late: float = setting(
        5.0, "LEDGER_LATE", "After how many seconds an item that is found counts as late.",
        "a number of seconds above 0, up to 3600", gt=0, le=3600,
    )  # fmt: skip
    patience: float = setting(
        60.0, "LEDGER_PATIENCE", "How long the last ones are waited for, in seconds.",
        "a number of seconds above 0, up to 3600", gt=0, le=3600,
    )  # fmt: skip
