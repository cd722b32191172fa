"""The door to numba: every file of kernels takes its decorator from here, on first use.

numba makes so many objects as it wakes up that Python's garbage collector goes through all of
memory again and again, for nothing. So the collector rests meanwhile.
"""

import gc

collecting = gc.isenabled()
gc.disable()
try:
    from numba import njit

    @njit("void()", cache=True)
    def _wake_up():
        """What numba loads with the first kernel of all, it loads with this one."""

finally:
    if collecting:
        gc.enable()

ORDERED = {"reassoc", "contract", "arcp", "nsz"}  # sums in any order; NaN and infinity are data
exact = njit(cache=True, nogil=True)
ordered = njit(cache=True, nogil=True, fastmath=ORDERED)
dividing = njit(cache=True, nogil=True, fastmath=ORDERED, error_model="numpy")  # x / 0 is infinite
