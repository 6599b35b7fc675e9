"""What one replica does at any moment of the last two weeks, and what its counters had added up to by then.

Both the pages that it shows now and the samples that a Prometheus kept of it come from here, so that they agree.
"""
import bisect, itertools, math, random, time
import fleet

STEP, HOUR, DAY = 120, 3600, 86400
WINDOW = 7 * DAY
SPAN = 2 * WINDOW


def day(t):
    """A quarter at night, all at noon in America's working hours, less at weekends; UTC."""
    at = time.gmtime(t)
    hour = at.tm_hour + at.tm_min / 60
    return (0.25 + 0.75 * max(0.0, math.sin((hour - 11) / 13 * math.pi) if 11 <= hour < 24 else 0.0)) * (0.6 if at.tm_wday >= 5 else 1.0)


def office(t):
    """08:00 to 18:00 in New York on workdays (UTC-5), nothing else."""
    at = time.gmtime(t - 5 * HOUR)
    return 1.0 if at.tm_wday < 5 and 8 <= at.tm_hour < 18 else 0.0


SHAPES = {
    "day": lambda t, now: day(t),
    "starved": lambda t, now: day(t),
    "office": lambda t, now: office(t),
    # Its users were moved elsewhere a week ago; its GPUs stayed.
    "falling": lambda t, now: day(t) * (1.0 if t <= now - WINDOW else 0.4),
    "flat": lambda t, now: 1.0,
    "never": lambda t, now: 0.0,
}
SECONDS = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560]
TOKENS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000]


class State:
    """One moment: gauges, and counters' rates per second."""
    __slots__ = ("rps", "prompt", "output", "running", "waiting", "kv", "preempted", "busy", "util", "throttled", "cpu")

    def __init__(self, **values):
        for name, value in values.items():
            setattr(self, name, value)


class Replica:
    """`load` as in fleet.py; `starts`: when its processes began, the last one runs; `capacity`: KV tokens."""

    def __init__(self, name, load, now, starts, capacity=None):
        self.load, self.now, self.starts, self.capacity = load, now, starts, capacity
        dice = random.Random(name)
        self.jitter = 0.92 + 0.16 * dice.random()
        shape = SHAPES[load["shape"]]
        self.times = list(range(now - SPAN + STEP, now + 1, STEP))
        raw = [shape(t, now) for t in self.times]
        # The mean that fleet.py names is that of the two weeks.
        mean = sum(raw) / len(raw) or 1.0
        gusts = [0.85 + 0.3 * dice.random() for _ in range(SPAN // 600 + 2)]
        self.states = [self._state(r / mean * gusts[i * STEP // 600], dice.random()) for i, r in enumerate(raw)]
        self.sums = {of: list(itertools.accumulate((getattr(s, of) * STEP for s in self.states), initial=0.0)) for of in ("rps", "preempted", "cpu")}

    def _state(self, level, dice):
        """`level`: 1 is the mean. Concurrency by Little's law; what the cache cannot hold waits and is thrown back."""
        w = self.load
        rps = w["rps"] * self.jitter * level
        wanted = rps * (w["ttft"] + w["itl"] * w["output"])
        running, waiting, kv, preempted = math.floor(wanted + dice), 0, 0.0, 0.0
        if self.capacity and rps > 0:
            # A request holds its prompt and, on average, half of its answer.
            length = w["prompt"] + w["output"] / 2
            most = int(self.capacity / length)
            if running > most:
                waiting, running, preempted = running - most, most, 0.06 * rps
            kv = min(0.995, running * length / self.capacity)
            if waiting:
                kv = 0.97 + 0.025 * dice
        busy = min(0.95, w["busy"] * level)
        starved = w["shape"] == "starved" and level > 1.25
        if starved:
            busy, waiting = 0.13 + 0.05 * dice, max(waiting, 3 + int(4 * dice))
        return State(rps=rps, prompt=rps * w["prompt"], output=rps * w["output"], running=running, waiting=waiting, kv=round(kv, 4), preempted=preempted,
                     busy=round(busy, 4), util=round(min(1.0, 0.97 if starved else busy * 1.5), 4),
                     throttled=round(0.45 + 0.2 * dice if starved else 0.03 * dice, 4), cpu=0.97 if starved else 0.2 + 0.3 * min(1.0, level / 2))

    def pressed(self, hours):
        """The last moment at least `hours` ago at which requests queued."""
        times = (t for t, s in zip(reversed(self.times), reversed(self.states)) if t <= self.now - hours * HOUR and s.waiting)
        return next(times)

    def alive(self):
        """(time, state) of all samples since it was first started."""
        return [(t, s) for t, s in zip(self.times, self.states) if t > self.starts[0]]

    def at(self, t):
        return self.states[min(max(0, bisect.bisect_left(self.times, t)), len(self.states) - 1)]

    def total(self, of, t):
        """A counter at `t`, since the process of then began. What was before the two weeks went on as the mean of them."""
        start = max(s for s in self.starts if s < t)
        begin = self.times[0] - STEP
        until = lambda x: self.sums[of][min(len(self.states), max(0, int(x - begin) // STEP))]
        return max(0.0, begin - start) * self.sums[of][-1] / SPAN + until(t) - until(max(start, begin)) + max(0, t - self.now) * getattr(self.states[-1], of)


def log_normal(mean, bounds, spread):
    """Share of observations at or under each bound, the last one infinite."""
    middle = math.log(max(mean, 1e-9)) - spread * spread / 2
    return [(b, 0.5 * (1 + math.erf((math.log(b) - middle) / (spread * math.sqrt(2))))) for b in bounds] + [(None, 1.0)]


def histograms(load):
    """(name without the engine's prefix, mean, observations a request, shares under each bound)."""
    each = load["ttft"] + load["itl"] * load["output"]
    return [("request_prompt_tokens", load["prompt"], 1, log_normal(load["prompt"] or 1, TOKENS, 0.5)),
            ("request_generation_tokens", load["output"], 1, log_normal(load["output"] or 1, TOKENS, 0.5)),
            ("time_to_first_token_seconds", load["ttft"], 1, log_normal(load["ttft"] or 1, SECONDS, 0.5)),
            ("inter_token_latency_seconds", load["itl"], load["output"], log_normal(load["itl"] or 1, SECONDS, 0.25)),
            ("e2e_request_latency_seconds", each, 1, log_normal(each or 1, SECONDS, 0.5))]
