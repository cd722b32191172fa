"""What the dtypes of a DataFrame say: which columns are bits, which hold categories."""

import numpy as np

WORDS = {"bool": "bernoulli", "boolean": "bernoulli", "category": "categorical"}


def dtype_words(X):
    """The likelihood that each dtype asks for; none for what is no DataFrame: -> list of words."""
    return [WORDS.get(_name(dtype), "gaussian") for dtype in _dtypes(X)]


def chosen(likelihood, X):
    """What "auto" stands for, a word or a list of pairs (word, columns); else what was asked."""
    if not (isinstance(likelihood, str) and likelihood == "auto"):
        return likelihood
    words = dtype_words(X) or ["gaussian"]
    if len(set(words)) == 1:
        return words[0]
    return [(w, [j for j, own in enumerate(words) if own == w]) for w in dict.fromkeys(words)]


def checked_pairs(pairs):
    """A list of (likelihood, columns), or ValueError."""
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(f"a list as likelihood has pairs (likelihood, columns), got {pair!r}")
    return pairs


def categories_of(X):
    """The categories of each column of dtype category, None elsewhere: -> tuple."""
    is_category = [_name(dtype) == "category" for dtype in _dtypes(X)]
    return tuple(
        np.asarray(X.iloc[:, j].cat.categories) if found else None
        for j, found in enumerate(is_category)
    )


def coded(X, categories):
    """Columns of dtype category as positions among known categories, NaN where nothing is.

    A category that is not known has the first code beyond. Other columns, and what is no
    DataFrame, are left alone: there, codes are codes already.
    """
    columns = [j for j, dtype in enumerate(_dtypes(X)) if _name(dtype) == "category"]
    known = [j for j in columns if j < len(categories) and categories[j] is not None]
    if not known:
        return X
    X = X.copy(deep=False)
    for j in known:
        X.isetitem(j, _codes(X.iloc[:, j], categories[j]))
    return X


def _codes(column, categories):
    position = {category: code for code, category in enumerate(categories.tolist())}
    own = [position.get(category, len(position)) for category in column.cat.categories.tolist()]
    codes = np.append(np.array(own, dtype=np.float64), np.nan)  # -1 marks what is missing
    return codes[column.cat.codes.to_numpy()]


def category_numbers(X):
    """Columns of dtype category whose categories are numbers as float64, NaN where nothing is.

    Together pandas would make integers of them, and a large negative number of what is missing.
    """
    found = [
        j
        for j, dtype in enumerate(_dtypes(X))
        if _name(dtype) == "category" and getattr(dtype.categories.dtype, "kind", "O") in "biuf"
    ]
    if not found:
        return X
    X = X.copy(deep=False)
    for j in found:
        X.isetitem(j, X.iloc[:, j].astype(np.float64))
    return X


def has_word_codes(X):
    """Whether a polars table has columns Categorical or Enum, which numpy reads as numbers."""
    return any(_name(dtype).startswith(("categorical", "enum")) for dtype in _dtypes(X))


def _dtypes(X):
    """The dtypes of the columns of a DataFrame; none for anything else."""
    dtypes = getattr(X, "dtypes", ()) if getattr(X, "ndim", 2) == 2 else ()
    return list(dtypes) if hasattr(dtypes, "__iter__") else []


def _name(dtype):
    return getattr(dtype, "name", str(dtype)).lower()
