"""Models of plain values, each registered by its class: naive priors, and what earlier studies use.

Importing the package registers them, in this order, which is the order of their rows.
"""

from stock_assets.model.baselines import naive, linear, svm, mlp, trees  # isort: skip

__all__ = ["linear", "mlp", "naive", "svm", "trees"]
