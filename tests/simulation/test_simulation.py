"""Months of a deployment under faults, from seeds: whatever happens, every cent is where the oracle says.

A failure names its seed; `SIMULATION_SEED=17 pytest tests/simulation` replays it. `SIMULATION_SEEDS=500` runs more.
"""

import os
from collections import Counter

import pytest

from metering.server.embedded.data_dir import Services
from tests.builders import Months
from tests.database import Template, clone
from tests.local_stripe import LocalStripe
from tests.simulation.checking import check_settled
from tests.simulation.simulator import Simulator

SEEDS = (
    [int(os.environ["SIMULATION_SEED"])]
    if "SIMULATION_SEED" in os.environ
    else range(int(os.environ.get("SIMULATION_SEEDS", "12")))
)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_every_cent_is_where_the_oracle_says(
    seed: int, services: Services, rated_template: Template, running_stripe: LocalStripe
) -> None:
    running_stripe.control.reset()
    with clone(services, rated_template) as database, database.service() as service:
        simulator = Simulator(Months(database, service, running_stripe), database, seed)
        print(f"seed {seed}: SIMULATION_SEED={seed} replays it")
        simulator.run()
        print(dict(simulator.reached + simulator.gateways.reached))
        check_settled(simulator)
        assert simulator.months.stripe is running_stripe
