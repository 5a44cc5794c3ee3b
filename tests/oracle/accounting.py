"""What Google's dp-accounting says of sequences of events: read from standard input, answered on standard output.

Both are JSON. See tests/it/accounting_oracle.rs, which makes the sequences and compares.
"""

import json
import math
import sys

import numpy as np
from dp_accounting import dp_event, privacy_accountant
from dp_accounting.pld import pld_pmf, pld_privacy_accountant
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import rdp_privacy_accountant as rdp

REPLACE = privacy_accountant.NeighboringRelation.REPLACE_ONE
ADD = privacy_accountant.NeighboringRelation.ADD_OR_REMOVE_ONE
# Between one order and the next, epsilon changes by about a ten-thousandth.
ORDERS = np.unique(np.concatenate([1.0 + np.geomspace(0.011, 1.0, 60), 1.0 + np.geomspace(1.0, 1e5, 500)]))


def event(kind, size):
    """The reference's own event for one of ours."""
    if kind == "gaussian":
        return dp_event.GaussianDpEvent(1.0 / math.sqrt(2.0 * size))
    if kind == "pure":
        # Randomised response between two: it lies with probability p/2 = 1/(1 + e^epsilon).
        return dp_event.RandomizedResponseDpEvent(2.0 / (1.0 + math.exp(size)), 2)
    if kind == "laplace":
        return dp_event.LaplaceDpEvent(1.0 / size)
    raise ValueError(kind)


def range_divergence(epsilon, orders):
    """The Renyi divergences of a loss of bounded range, which the reference does not know: the worst two points, tried."""

    def tried(order, t):
        p = np.expm1(epsilon - t) / math.expm1(epsilon)
        return np.logaddexp(np.log(p) + order * t, np.log1p(-p) + order * (t - epsilon)) / (order - 1.0)

    worst = []
    for order in orders:
        low, high = 0.0, epsilon
        for _ in range(3):
            t = low + (high - low) * (np.arange(400) + 0.5) / 400.0
            values = tried(order, t)
            best = t[np.argmax(values)]
            low, high = max(0.0, best - (high - low) / 400.0), min(epsilon, best + (high - low) / 400.0)
        worst.append(max(0.0, np.max(values)))
    return np.array(worst)


def renyi(sequences):
    curves = {}

    def curve(kind, size):
        if (kind, size) not in curves:
            if kind == "range":
                curves[kind, size] = range_divergence(size, ORDERS)
            else:
                accountant = rdp.RdpAccountant(ORDERS, REPLACE).compose(event(kind, size))
                curves[kind, size] = accountant._rdp
        return curves[kind, size]

    answers = []
    for sequence in sequences:
        total = sum(count * curve(kind, size) for kind, size, count in sequence["events"])
        epsilon, _ = rdp.compute_epsilon(ORDERS, total, sequence["delta"])
        # At the order that we found best, all is composed by the reference.
        order = sequence["order"]
        at_order = math.inf
        if order > 1.01:
            accountant = rdp.RdpAccountant([order], REPLACE)
            for kind, size, count in sequence["events"]:
                if kind == "range":
                    one = dp_event.ZCDpEvent(rho=0.0, xi=float(range_divergence(size, [order])[0]))
                else:
                    one = event(kind, size)
                accountant.compose(one, count)
            at_order = accountant.get_epsilon(sequence["delta"])
        answers.append([epsilon, at_order])
    return answers


def bounded_range(epsilon, step):
    """Losses of bounded range, from their privacy profile: from above by the library, and from below, rounded down."""
    points = int(math.ceil(epsilon / step))
    losses = np.clip(np.arange(-points, points + 1) * step, -epsilon, epsilon)
    deltas = (math.exp(epsilon / 2.0) - np.exp(losses / 2.0)) ** 2 / math.expm1(epsilon)
    above = pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(step, -points, points, np.clip(deltas, 0.0, 1.0))
    masses = np.diff(np.exp(losses / 2.0)) / (2.0 * math.sinh(epsilon / 2.0))
    below = pld_pmf.create_pmf(
        dict(zip(range(-points, points), masses)), step, infinity_mass=0.0, pessimistic_estimate=False
    )
    return pld.PrivacyLossDistribution(above), pld.PrivacyLossDistribution(below)


def optimistic(epsilon, step):
    """Randomised response for composition with estimates from below."""
    points = round(epsilon / step)
    masses = {points: 1.0 / (1.0 + math.exp(-epsilon)), -points: 1.0 / (1.0 + math.exp(epsilon))}
    return pld.PrivacyLossDistribution(pld_pmf.create_pmf(masses, step, 0.0, pessimistic_estimate=False))


def losses(sequences, step):
    answers = []
    for sequence in sequences:
        delta, events = sequence["delta"], sequence["events"]
        # Truncation and Fourier transforms make the reference's delta larger or smaller by less than this.
        slack = 1e-12 + 1e-15 * sum(count for _, _, count in events)
        if all(kind == "pure" for kind, _, _ in events):
            accountant = pld_privacy_accountant.PLDAccountant(ADD, step)
            for _, size, count in events:
                # With sensitivity 1 this is randomised response. (The accountant's event of that name ignores the count.)
                accountant.compose(dp_event.DiscreteLaplaceDpEvent(size, 1), count)
            above, below = accountant.get_epsilon(delta), accountant.get_epsilon(delta + slack)
        else:
            bounds = []
            for side in (0, 1):
                total = None
                for kind, size, count in events:
                    if kind == "range":
                        one = bounded_range(size, step)[side]
                    elif side == 0:
                        one = pld.from_discrete_laplace_mechanism(size, 1, value_discretization_interval=step)
                    else:
                        one = optimistic(size, step)
                    # Only estimates from above can be truncated.
                    tail = 1e-15 if side == 0 else 0.0
                    one = one.self_compose(count, tail)
                    total = one if total is None else total.compose(one, tail)
                bounds.append(total)
            above = bounds[0].get_epsilon_for_delta(delta)
            below = bounds[1].get_epsilon_for_delta(delta + slack)
        answers.append([below, above])
    return answers


def main():
    asked = json.load(sys.stdin)
    json.dump(
        {"renyi": renyi(asked["renyi"]), "losses": losses(asked["losses"], asked["step"])},
        sys.stdout,
    )


if __name__ == "__main__":
    main()
