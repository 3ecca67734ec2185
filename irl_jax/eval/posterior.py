"""Bayesian inverse RL: how probable each reward is, given demonstrations.

log p(θ | D) = log p(D | θ) + log p(θ) + constant, for any parameters θ of a reward, with a normal
prior. Where the demonstrations say nothing the prior stays as it was, so that nothing needs to be
identified. The posterior is evaluated on a grid where θ has few elements; else it is approximated
by a normal distribution around its mode (Laplace) or sampled (NUTS).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from irl_jax.masking import check_range
from irl_jax.types import InputError, Loss

# parameters f[N] -> log density f[], nats
LogDensity = Callable[[Array], Array]


def log_joint(
    loss: Callable[[Array], Loss], *, mean: float | Array = 0.0, deviation: float | Array
) -> LogDensity:
    """log p(D | θ) + log p(θ), what a posterior is proportional to, θ ~ N(mean, deviation²).

    Args:
        loss: θ f[N] -> `causal_likelihood` of the demonstrations with a discount of 1, whose total
            is −log p(D | θ). With another it is no likelihood, and the posterior is too wide.
        mean: f[N] or a number, of the prior.
        deviation: σ > 0, f[N] or a number, of the prior.

    Raises:
        InputError: deviation is not positive.

    Reference: Ramachandran & Amir 2007, "Bayesian Inverse Reinforcement Learning", section 3.

    Differs: the demonstrator plans softly and the prior is normal.
    """
    check_range("deviation", deviation, 0.0, exclusive=True)

    def density(theta: Array) -> Array:
        prior = jax.scipy.stats.norm.logpdf(theta, mean, deviation).sum()
        return prior - loss(theta).total

    return density


@struct.dataclass
class Grid:
    """A distribution on finitely many points.

    Attributes:
        points: f[G, N].
        logp: f[G], log-probs (nats).
        log_evidence: f[], log ∫ of the density that was given (nats).
    """

    points: Array
    logp: Array
    log_evidence: Array

    @property
    def mean(self) -> Array:
        """f[N]."""
        return jnp.exp(self.logp) @ self.points

    @property
    def covariance(self) -> Array:
        """f[N, N]."""
        apart = self.points - self.mean
        return (jnp.exp(self.logp)[:, None] * apart).T @ apart

    def sample(self, key: Array, draws: int) -> Array:
        """Points as often as they are probable, f[draws, N]."""
        return self.points[jax.random.categorical(key, self.logp, shape=(draws,))]


def grid_posterior(density: LogDensity, axes: Sequence[Array], *, batch_size: int = 4096) -> Grid:
    """The posterior on all combinations of values, p(θ) = density(θ) / Σ density.

    Args:
        density: θ f[N] -> log density, from `log_joint`.
        axes: N arrays of evenly spaced values, which must reach as far as the posterior does.
        batch_size: points that are evaluated at a time.

    Raises:
        InputError: an axis has fewer than two values.

    Example:
        >>> normal = lambda theta: jax.scipy.stats.norm.logpdf(theta, 1.0, 2.0).sum()
        >>> grid = grid_posterior(normal, [jnp.linspace(-15.0, 17.0, 321)])
        >>> [round(float(x), 3) for x in (grid.mean[0], grid.covariance[0, 0], grid.log_evidence)]
        [1.0, 4.0, 0.0]
    """
    if any(len(axis) < 2 for axis in axes):
        raise InputError("axes: expected two or more values on each axis")
    mesh = jnp.meshgrid(*axes, indexing="ij")
    points = jnp.stack([x.ravel() for x in mesh], axis=-1)
    values = jax.lax.map(density, points, batch_size=batch_size)
    total = jax.nn.logsumexp(values)
    volume = jnp.prod(jnp.stack([axis[1] - axis[0] for axis in axes]))
    return Grid(points, values - total, total + jnp.log(volume))


@struct.dataclass
class Normal:
    """A normal distribution.

    Attributes:
        mean: f[N].
        covariance: f[N, N].
        log_evidence: f[], log ∫ of the density that it approximates (nats).
    """

    mean: Array
    covariance: Array
    log_evidence: Array


def laplace(density: LogDensity, start: Array) -> Normal:
    """The normal distribution with the mode and the curvature of a posterior.

    θ ~ N(θ*, (−∇² log p(θ*))⁻¹), log Z ≈ log p(θ*) + N/2 log 2π − ½ log det(−∇² log p(θ*)).

    Args:
        density: θ f[N] -> log density, from `log_joint`.
        start: f[N], where the search of the mode begins.

    Returns:
        The distribution; NaN where no mode was found.

    Reference: MacKay 1992, "A Practical Bayesian Framework for Backpropagation Networks".

    Example:
        >>> normal = lambda theta: jax.scipy.stats.norm.logpdf(theta, 1.0, 2.0).sum()
        >>> found = laplace(normal, jnp.zeros(1))
        >>> [round(float(x), 3) for x in (found.mean[0], found.covariance[0, 0])]
        [1.0, 4.0]
    """
    mode = _mode(density, start)
    root = jnp.linalg.cholesky(-jax.hessian(density)(mode))
    inverse = jax.scipy.linalg.cho_solve((root, True), jnp.eye(len(mode)))
    log_volume = 0.5 * len(mode) * jnp.log(2 * jnp.pi) - jnp.log(jnp.diag(root)).sum()
    return Normal(mode, inverse, density(mode) + log_volume)


def _mode(density: LogDensity, start: Array, max_iterations: int = 100) -> Array:
    """Where a log density is greatest, f[N], by Newton's method with shorter steps; NaN if nowhere.

    It ends when Newton's model of the density promises no more than the density's rounding. Where
    the density is not concave its curvatures are taken as if it were.
    """
    shorter = 0.5 ** jnp.arange(20.0)

    def improve(state: tuple[Array, Array, int]) -> tuple[Array, Array, int]:
        theta, _, done = state
        slope, value = jax.grad(density)(theta), density(theta)
        curvature, axes = jnp.linalg.eigh(-jax.hessian(density)(theta))
        least = jnp.finfo(theta.dtype).eps * jnp.abs(curvature).max()
        step = axes @ (axes.T @ slope / jnp.maximum(jnp.abs(curvature), least))
        gain = slope @ step
        found = jax.vmap(lambda size: density(theta + size * step))(shorter)
        better = found >= value + 0.1 * shorter * gain
        taken = jnp.where(better.any(), shorter[better.argmax()], 0.0)
        rounding = 4 * jnp.finfo(theta.dtype).eps * (1 + jnp.abs(value))
        left = jnp.where(gain <= rounding, 0.0, jnp.where(taken > 0, gain, jnp.nan))
        return theta + taken * step, left, done + 1

    going = lambda state: (state[1] > 0) & (state[2] < max_iterations)
    theta, left, _ = jax.lax.while_loop(going, improve, (start, jnp.asarray(jnp.inf), 0))
    return jnp.where((left == 0) & jnp.isfinite(theta).all(), theta, jnp.nan)


def nuts(density: LogDensity, start: Array, key: Array, *, warmup: int, draws: int) -> Array:
    """Draws from a posterior by the no-U-turn sampler, which sets its own step size and masses.

    Args:
        density: θ f[N] -> log density, from `log_joint`.
        start: f[N], where the chain begins, such as the mode that `laplace` finds.
        key: typed PRNG key.
        warmup: steps in which step size and masses are set, which are dropped.
        draws: D, steps that are kept.

    Returns:
        f[D, N]; neighbours are alike.

    Raises:
        InputError: blackjax is not installed, or a number is out of range.

    Reference: Hoffman & Gelman 2014, "The No-U-Turn Sampler: Adaptively Setting Path Lengths in
    Hamiltonian Monte Carlo", arXiv 1111.4246; blackjax, https://github.com/blackjax-devs/blackjax.
    """
    try:
        import blackjax
    except ImportError as error:
        raise InputError('nuts: needs blackjax, pip install "irl_jax[bayes]"') from error
    check_range("warmup", warmup, 1)
    check_range("draws", draws, 1)
    first, later = jax.random.split(key)
    tuned = blackjax.window_adaptation(blackjax.nuts, density)
    (state, parameters), _ = tuned.run(first, start, num_steps=warmup)
    step = blackjax.nuts(density, **parameters).step

    def advance(state: Any, key: Array) -> tuple[Any, Array]:
        state, _ = step(key, state)
        return state, state.position

    return jax.lax.scan(advance, state, jax.random.split(later, draws))[1]
