"""Matrices with orthogonal rows, or with rows of unit length: how factors may turn."""

import numpy as np

SINGULAR = 1e-4  # singular value of B below which factors have become one


class Orthogonal:
    """B B' = I."""

    @staticmethod
    def tangent(D, B):
        """The part of D along which B may move: skew(D B') B."""
        S = D @ B.T
        return (S - S.T) / 2 @ B

    @staticmethod
    def retract(X):
        """The nearest orthogonal matrix."""
        U, _, Vt = np.linalg.svd(X)
        return U @ Vt

    @staticmethod
    def inverse(B):
        return B.T

    @staticmethod
    def directions(q):
        """Units of E = dB B': skew (q (q - 1) / 2, q, q)."""
        i, j = np.triu_indices(q, 1)
        E, m = np.zeros((len(i), q, q)), np.arange(len(i))
        E[m, i, j], E[m, j, i] = 1.0, -1.0
        return E

    @staticmethod
    def stationarity(L, G, Phi):
        """Minus the derivatives of Q along `directions`: (q (q - 1) / 2,)."""
        M = L.T @ G
        return (M - M.T)[np.triu_indices(len(M), 1)]

    @staticmethod
    def correlation(B):
        return np.eye(len(B))


class Oblique:
    """diag(B B') = I."""

    @staticmethod
    def tangent(D, B):
        """The part of D along which B may move: each row orthogonal to that of B."""
        return D - (D * B).sum(axis=1, keepdims=True) * B

    @staticmethod
    def retract(X):
        return X / np.linalg.norm(X, axis=1, keepdims=True)

    @staticmethod
    def inverse(B):
        return np.linalg.inv(B)

    @staticmethod
    def directions(q):
        """Units of E = dB B': zeros on the diagonal (q (q - 1), q, q)."""
        i, j = np.nonzero(~np.eye(q, dtype=bool))
        E = np.zeros((len(i), q, q))
        E[np.arange(len(i)), i, j] = 1.0
        return E

    @staticmethod
    def stationarity(L, G, Phi):
        """Minus the derivatives of Q along `directions`: (q (q - 1),)."""
        M = L.T @ G
        return np.linalg.solve(Phi.T, M.T).T[~np.eye(len(M), dtype=bool)]

    @staticmethod
    def correlation(B):
        Phi = B @ B.T
        np.fill_diagonal(Phi, 1.0)
        return Phi


def apart(B):
    """Whether no two factors, or combinations of them, have become one."""
    return bool((np.linalg.svd(B, compute_uv=False) > SINGULAR).all())


def random_orthogonal(q, rng):
    """Uniform over all orthogonal matrices (q, q)."""
    Q, R = np.linalg.qr(rng.standard_normal((q, q)))
    return Q * np.sign(np.diag(R))
