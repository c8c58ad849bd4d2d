// Loops whose counter is a constant in every pass, as an offset in an instruction has to be.
#pragma once

#include "common.cuh"

// f(Known<i>()) for i from FIRST to END - 1, in which `constexpr unsigned I = i;` gives the number.
template <unsigned FIRST, unsigned END, class F> __device__ __forceinline__ void for_known(F f) {
    if constexpr (FIRST < END) {
        f(Known<FIRST>());
        for_known<FIRST + 1, END>(f);
    }
}
