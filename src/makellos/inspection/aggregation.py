"""From an anomaly map to one score, the same for every detector."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Aggregation"]


class Aggregation(BaseModel):
    """Say how an anomaly map becomes a score.

    `maximum` takes the largest value; `top_k_mean` the mean of the largest share `parameter` of
    values; `quantile` the quantile `parameter`. Shares are in (0, 1]. `mean_weight` times the mean
    of all values is added: damage that is wide and faint raises it more than the largest value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["maximum", "top_k_mean", "quantile"] = "maximum"
    parameter: float = Field(default=1.0, gt=0.0, le=1.0)
    mean_weight: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)

    def __call__(self, anomaly_map: NDArray[np.float32]) -> float:
        """Return the score of a map H×W.

        >>> Aggregation(name="top_k_mean", parameter=0.5)(np.float32([[1, 2], [3, 5]]))
        4.0
        """
        values = anomaly_map.ravel()
        if self.mean_weight:
            plain = self.model_copy(update={"mean_weight": 0.0})
            return plain(anomaly_map) + self.mean_weight * float(values.mean(dtype=np.float64))
        if self.name == "quantile":
            return float(np.quantile(values, self.parameter))
        if self.name == "top_k_mean":
            k = max(1, round(self.parameter * values.size))
            return float(np.partition(values, -k)[-k:].mean())
        return float(values.max())
