#!/usr/bin/env python3
"""Make `crates/fit/src/data/bands.csv`: how many times a step's own band a logged pool was off.

usage: bands.py --binary target/debug/gpuwaste --truth FILE… [--write crates/fit/src/data/bands.csv | --check FILE]

A row's residual is the distance of its logged pool from the estimate, in units of the band that the steps themselves give
(`kv_band_source.own_bytes_per_gpu`), below or above. A regime's factor is the conformal quantile of the residuals of all its threads: each
thread weighs one, whatever its number of rows, and one more thread that is still to come counts as infinitely far off. A regime
with few threads is left to a wider one.
"""
import argparse, itertools, math, sys

import rows

COVERAGE = 0.86
# Threads that a regime needs for a factor of its own: with fewer its worst thread is the factor.
LEAST = 25
HEADER = "engine,version,hybrid,several,threads,factor\n"


def residuals(binary, table):
    """(thread, regime, residual) of every row that logged its pool."""
    found = []
    for row in table:
        _, gib, tokens = rows.logged(row)
        if not tokens:
            continue
        place, _ = rows.ask(binary, row, told=True)
        source, value, held = (place.get(k) for k in ("kv_band_source", "kv_bytes_per_gpu", "kv_capacity_tokens"))
        if not source or not value or not held:
            continue
        regime = tuple(source[k] for k in ("engine", "version_known", "hybrid", "several_gpus"))
        # Tokens are what is judged; a pool in bytes would hide an error of the bytes a token.
        pool = tokens * value / held
        reach = source["own_bytes_per_gpu"][0 if pool < value else 1]
        found.append((rows.thread(row), regime, abs(pool - value) / max(reach, 1.0)))
    return found


def quantile(found):
    """The conformal quantile, and how many threads are behind it."""
    count = {}
    for thread, _, _ in found:
        count[thread] = count.get(thread, 0) + 1
    threads = len(count)
    need, sum_ = COVERAGE * (threads + 1), 0.0
    for thread, _, residual in sorted(found, key=lambda f: f[2]):
        sum_ += 1.0 / count[thread]
        if sum_ >= need - 1e-9:
            return residual, threads
    return math.inf, threads


def book(found):
    """The file's text: the narrowest regimes first."""
    lines = []
    for known in sorted(itertools.product((True, False), repeat=4), key=lambda k: -sum(k)):
        if not known[0] and any(known):
            continue
        seen = {}
        for item in found:
            key = tuple(v if k else None for v, k in zip(item[1], known))
            seen.setdefault(key, []).append(item)
        for key, items in sorted(seen.items(), key=str):
            factor, threads = quantile(items)
            if threads >= LEAST and math.isfinite(factor) or not any(known):
                word = lambda v: "any" if v is None else ("yes" if v else "no")
                factor = min(max(factor, 0.3), 3.0)
                lines.append(f"{key[0] or 'any'},{word(key[1])},{word(key[2])},{word(key[3])},{threads},{factor:.2f}\n")
    return HEADER + "".join(lines)


def left_out(binary, table):
    """For each thread, the file that the others make."""
    found = residuals(binary, table)
    return {t: book([f for f in found if f[0] != t]) for t in {rows.thread(r) for r in table}}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--binary", required=True)
    p.add_argument("--truth", required=True, nargs="+")
    p.add_argument("--write")
    p.add_argument("--check")
    o = p.parse_args()
    text = book(residuals(o.binary, rows.read(o.truth)))
    if o.write:
        with open(o.write, "w") as file:
            file.write(text)
    elif o.check:
        with open(o.check) as file:
            if file.read() != text:
                print(f"{o.check} is not what the rows make of the model as it is; write it anew with --write\n{text}")
                return 1
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
