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
    values; `quantile` the quantile `parameter`. Shares are in (0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["maximum", "top_k_mean", "quantile"] = "maximum"
    parameter: float = Field(default=1.0, gt=0.0, le=1.0)

    def __call__(self, anomaly_map: NDArray[np.float32]) -> float:
        """Return the score of a map H×W.

        >>> Aggregation(name="top_k_mean", parameter=0.5)(np.float32([[1, 2], [3, 5]]))
        4.0
        """
        values = anomaly_map.ravel()
        if self.name == "quantile":
            return float(np.quantile(values, self.parameter))
        if self.name == "top_k_mean":
            k = max(1, round(self.parameter * values.size))
            return float(np.partition(values, -k)[-k:].mean())
        return float(values.max())
