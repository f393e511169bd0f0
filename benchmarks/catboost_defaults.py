"""CatBoost with its defaults; a program of its environment, which benchmarks/boosted_trees.py starts.

    python catboost_defaults.py FOLDER KIND [CATEGORY ...]

FOLDER has fitted.parquet and test.parquet, whose last column is the label. It gets predictions.npy, numbers [rows] or
shares of the classes [rows, classes], and classes.txt with the names of the classes.
"""

import sys
from pathlib import Path

import catboost
import numpy as np
import pandas as pd


def main(folder: Path, kind: str, *categories: str) -> None:
    """Fit and predict.

    Args:
      folder: Folder of the rows and of the predictions.
      kind: Kind of label: binary, multiclass or regression.
      categories: Names of the columns of categories.
    """
    fitted, test = (pd.read_parquet(folder / f"{split}.parquet") for split in ("fitted", "test"))
    settings = {"cat_features": list(categories), "random_seed": 0, "thread_count": 2}
    settings |= {"verbose": False, "allow_writing_files": False}
    inputs, labels = fitted.iloc[:, :-1], fitted.iloc[:, -1]
    if kind == "regression":
        model = catboost.CatBoostRegressor(**settings).fit(inputs, labels)
        predictions, classes = model.predict(test.iloc[:, :-1]), []
    else:
        model = catboost.CatBoostClassifier(**settings).fit(inputs, labels.astype(str))
        predictions, classes = model.predict_proba(test.iloc[:, :-1]), [str(name) for name in model.classes_]
    np.save(folder / "predictions.npy", predictions)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
