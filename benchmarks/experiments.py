# SPDX-License-Identifier: Apache-2.0
"""What training learns: the list of experiments, their runs, and the tables of docs/benchmarks.md, section "learning".

python benchmarks/experiments.py [--list] [--only PATTERN ...] [--seeds N] [--jobs N] [--fresh] [--tables] [--write]
python benchmarks/experiments.py --only PATTERN --rates 0.01,0.02,0.04 [--epochs N]

Each finished run, one experiment with one seed, is a file in benchmarks/results/learning; it is not repeated unless the
experiment has changed, or with --fresh; only its bytes are those of today's kernels. A run that was interrupted goes on
from its last epoch. --rates tries learning rates with the first seed and stores nothing.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from fnmatch import fnmatch

from common import publish
from learning_runs import Experiment, Store, run_all
from learning_tables import rates_table, tables

# Rates of a batch of 8, chosen with --rates on flowers102 for the integer trainings, seed 0, in percent:
#   49kb    0.01: 87.9   0.02: 88.5   0.04: 86.6     (float 88.7, 88.2, 85.7)
#   99kb    0.005: 89.2   0.01: 88.9   0.02: 87.6
LR = 0.02
RATES = {"head": 0.04, "99kb": 0.005}  # of schemes that learn better at another one
RULED = ("pets3",)  # where optimizers are compared, and biases alone are trained
IMAGES = ("flowers102", "stanford_cars", "cats_dogs", "pets3")
SIGNALS = ("wrist", "ecg", "digits")
ADAM_LIKE = {"kind": "adam", "beta1": 0.9, "beta2": 0.999}
OPTIMIZERS = {
    "momentum": ({"kind": "momentum", "beta1": 0.9}, LR / 8),
    "sign": ({"kind": "sign"}, LR / 256),
    "lion": ({"kind": "lion", "beta1": 0.9, "beta2": 0.99}, LR / 256),
    "adam": (ADAM_LIKE, LR / 64),
    "frugal": ({**ADAM_LIKE, "stateful": 0.25}, LR / 64),
    "clipped": ({"kind": "sgd", "clip": 8.0}, LR),
}


def experiments() -> list[Experiment]:
    """Every run of every table; what two tables share is listed once."""
    made = [image(data, "49kb") for data in IMAGES] + [signal(data) for data in SIGNALS]
    made += [image("flowers102", scheme) for scheme in ("head", "99kb")] + [image("pets3", "head")]
    floats = [replace(each, name=f"{each.name}/float", kind="float") for each in made]
    made += [image(data, "biases") for data in RULED]  # the backward part is the peak of memory
    eights = [varied(each, "int8", gradients="int8") for each in made if not each.name.endswith("/head")]
    made.append(varied(image("flowers102", "99kb"), "no-qas", scaling="none"))
    for data in ("flowers102", "pets3"):
        made += [varied(image(data, "49kb"), update, update=update) for update in ("stochastic", "truncate")]
    for data in RULED:
        base = image(data, "49kb")
        for name, (optimizer, lr) in OPTIMIZERS.items():
            made.append(replace(varied(base, name, optimizer=optimizer), lr=lr))
    return made + eights + floats


def image(data: str, scheme: str) -> Experiment:
    """MCUNet-5FPS at 128x128, mirrored images."""
    return Experiment(f"{data}/{scheme}", data, "mcunet-5fps", scheme, RATES.get(scheme, LR), "flip")


def signal(data: str) -> Experiment:
    """A small network of examples/personalize with a new classifier, every weight trained."""
    return Experiment(f"{data}/all", data, data, "all", LR, "")


def varied(base: Experiment, name: str, **overrides: object) -> Experiment:
    """The same with other fields of the scheme."""
    return replace(base, name=f"{base.name}/{name}", overrides={**base.overrides, **overrides})


def main() -> None:
    options = arguments()
    chosen = [
        each
        for each in experiments()
        if not options.only or any(fnmatch(each.name, pattern) for pattern in options.only)
    ]
    if options.epochs:
        chosen = [replace(each, epochs=options.epochs) for each in chosen]
    if options.list:
        store = Store(options.seeds)
        print("\n".join(f"{each.name:<40} {store.state(each)}" for each in chosen))
    elif options.rates:
        rates = [float(text) for text in options.rates.split(",")]
        tried = [replace(each, name=f"{each.name}@{lr:g}", lr=lr) for each in chosen for lr in rates]
        store = Store(1, keeps=False)
        run_all(tried, store, options.jobs)
        print(rates_table(tried, store))
    else:
        store = Store(options.seeds, fresh=options.fresh)
        if not options.tables:
            run_all(chosen, store, options.jobs)
            for each in chosen:
                store.account(each)
        publish("learning", tables({each.name: each for each in experiments()}, store))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="names, and how many of their runs are stored")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="names such as 'flowers102/*'")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each, with seeds 0, 1, ...")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--fresh", action="store_true", help="run again what is stored")
    parser.add_argument("--tables", action="store_true", help="run nothing")
    parser.add_argument("--rates", metavar="LIST", help="try learning rates instead")
    parser.add_argument("--epochs", type=int, help="instead of 12, with --rates")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    if options.epochs and not options.rates:
        sys.exit("--epochs is for --rates: the tables are of whole trainings")
    return options


if __name__ == "__main__":
    main()
