"""Advantages in NumPy float64."""

import numpy as np


def group_advantages(reward, *, scale=True, eps=1e-6):
    """Shao et al. 2024, section 4.1.2, with the sample standard deviation."""
    rows = []
    for row in np.asarray(reward, np.float64):
        centred = row - np.mean(row)
        rows.append(centred / (np.std(row, ddof=1) + eps) if scale else centred)
    return np.array(rows)
