"""What the training benchmarks measure with, on either side: numpy and SciPy alone, so that GluonTS's own interpreter
can import it too.
"""

import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

#: Between sell and hold, and between hold and buy, of a forecast of the label -1, 0 or 1.
HALFWAY = (-0.5, 0.5)


def student_t_probabilities(
    freedom: np.ndarray, location: np.ndarray, scale: np.ndarray, cuts: Sequence[float] = HALFWAY
) -> np.ndarray:
    """float64 [N, 3]: the mass of Student's t distributions [N] below, between and above the two `cuts`.

    The upper mass is a lower one of the mirrored distribution, so that a far tail keeps its digits.
    """
    from scipy.special import stdtr

    low, high = cuts
    sell, buy = stdtr(freedom, (low - location) / scale), stdtr(freedom, (location - high) / scale)
    return np.stack([sell, np.maximum(1 - sell - buy, 0.0), buy], axis=1)


def log_loss(probabilities: np.ndarray, classes: np.ndarray) -> float:
    """Mean of -ln p [N, 3] at the true `classes` (0 sell, 1 hold, 2 buy), in nats; p is cut at 1e-15 from below."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(classes)), classes], 1e-15)).mean())


def best_cuts(freedom: np.ndarray, location: np.ndarray, scale: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """The two cuts of `student_t_probabilities` with the lowest log-loss on these forecasts."""
    from scipy.optimize import minimize

    def loss(point: np.ndarray) -> float:
        cuts = point[0], point[0] + np.exp(point[1])  # the second stays above the first
        return log_loss(student_t_probabilities(freedom, location, scale, cuts), classes)

    optimum = minimize(loss, [HALFWAY[0], np.log(HALFWAY[1] - HALFWAY[0])], method="Nelder-Mead")
    return float(optimum.x[0]), float(optimum.x[0] + np.exp(optimum.x[1]))


def peak_memory() -> int:
    """Bytes: the highest resident memory of this process since it was started."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells on Linux includes the parent's memory at the fork
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
