"""Settings of the access log."""

from dataclasses import dataclass
from datetime import timedelta

from tracking.environment import EnvironmentSettings, variable
from tracking.setting_values import whole


@dataclass(frozen=True, kw_only=True)
class AccessSettings(EnvironmentSettings):
    """How long it is known who read where somebody was."""

    access_log_days: int = variable(
        365,
        whole(0, 36_500),
        "days for which it is kept who read a booking; 0: none, and what there is goes",
    )

    @property
    def keep_accesses(self) -> timedelta:
        """Zero: none are kept."""
        return timedelta(days=self.access_log_days)
