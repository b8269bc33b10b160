"""What a machine is measured with beside the implementations: a product of matrices, and an adapter that does nothing.

Both are adapters in processes of their own, as all others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pcalm_conformance.protocol import Problem, Solution

SIZE, PRODUCTS = 384, 8  # rows and columns, and how many: some ten milliseconds
PRODUCT_FLOPS = 2.0 * SIZE**3 * PRODUCTS
Answer = Callable[[], list[np.ndarray]]


class Nothing:
    """Zeros of the right shape: what it costs is what the suite needs to carry a problem there and an answer back."""

    name = "nothing"

    def __init__(self) -> None:
        self.answers: dict[tuple[object, ...], list[np.ndarray]] = {}

    def answer(self, problem: Problem) -> list[np.ndarray]:
        key = problem.dtype, *(weight.shape for weight in problem.weights)
        if key not in self.answers:
            self.answers[key] = [np.zeros(weight.shape, problem.dtype) for weight in problem.weights]
        return self.answers[key]

    def solve(self, problem: Problem) -> Solution:
        return Solution(np.empty(0), np.empty(0), self.answer(problem))

    def prepare(self, problem: Problem) -> Answer:
        answer = self.answer(problem)
        return lambda: answer


class Product(Nothing):
    """The same, after PRODUCTS products of square matrices in the problem's dtype."""

    name = "product"

    def __init__(self) -> None:
        super().__init__()
        self.matrices = np.random.default_rng(0).standard_normal((2, SIZE, SIZE))

    def prepare(self, problem: Problem) -> Answer:
        answer = self.answer(problem)
        a, b = self.matrices.astype(problem.dtype)
        product = np.empty_like(a)

        def run() -> list[np.ndarray]:
            for _ in range(PRODUCTS):
                np.matmul(a, b, out=product)
            return answer

        return run


nothing, product = Nothing(), Product()
