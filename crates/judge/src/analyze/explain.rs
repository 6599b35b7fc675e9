//! What `gpuwaste explain CHECK` prints: the checks' user documentation.

pub(super) const DARK_CAPACITY: &str = "\
What it finds. GPUs that are paid for and do nothing, in four parts:
  unallocated  on a Ready, schedulable node older than an hour, and no pod holds them
  unhealthy    the node has not been Ready for an hour, is cordoned for a day, or devices are missing from its allocatable
  stuck        held by a pod that has not been Ready for an hour (longer where its startup probe or its weights need longer):
               image pulls, crash loops of five restarts and more, init containers, deletions that do not end
  idle         held by a server whose counters show no request and no token in all its replicas since it started (a day at
               least for 'measured'), or by a notebook or job without GPU activity in a day of history

Why it costs. A node's price does not depend on what its GPUs do.

How the dollars are computed. Each GPU costs its share of its node's price; a MIG instance its compute slices of that. The
finding claims those shares, each GPU once: stuck before unhealthy before free before idle. 'now' means that the whole node
becomes empty and is on-demand or spot, so that the bill can stop; else the GPUs are 'reusable'.

When it is wrong. A free GPU is one look: it may be taken a minute later, so it is 'estimated' (with history: 'measured' where it
was free for 80 % of a day). Standby capacity that an
autoscaler keeps on purpose is 'estimated' too. Pods with a priority below 0 and pause images are placeholders and never idle.
A server whose metrics could not be read is not assessed, never idle.

What to do. Scale pools down, repair nodes, fix or remove what is stuck, ask owners of idle servers. What must stay: annotate
it with gpuwaste.dev/ignore: \"dark-capacity REASON\".";

pub(super) const STRANDED_GPU: &str = "\
What it finds. Free GPUs that nobody can use where they are: the node's CPU, memory or pod slots are requested away (host), or
a pod has waited ten minutes for k GPUs on one node while at least k are free, but never k together (scatter).

Why it costs. The scheduler sees a free GPU and can give it to nobody; dashboards show capacity that does not exist.

How the dollars are computed. host: (free - usable) GPUs of the node, where usable is what the CPU and memory that are left
would feed; a GPU's need is the middle of the requests of this tier's own pods (five at least), else 6 vCPU (vLLM's rule
2 x (2 + N) for one GPU) and as much memory as the GPU has. scatter: the GPUs that the waiting pods would take. Taken from
'unallocated', never added to it.

When it is wrong. Servers of small models need less than the rule. Taints, selectors and node affinity of waiting pods are
respected; pods with pod affinity or spread constraints are left out. A move is named only where everything that moves, and the
pod that waits, then has GPUs (of the same kind), CPU, memory and a pod slot; priorities and volumes are not looked at.

What to do. Keep CPU-only pods off GPU nodes with a taint, lower requests nobody uses, pack small pods together.";

pub(super) const KV_PRESSURE: &str = "\
What it finds. Servers whose KV cache is full while requests wait, or that preempt requests: 1 % of the finished ones and more.
  config       an explicit max-num-seqs that the cache cannot hold at the usual request length
  oom          a server that the kernel killed for host memory within the last day, and that runs again
  gpu-oom      with history: restarts in error within five minutes after a full cache or a queue

Why it costs. A preempted request is computed again from its beginning; a full cache turns into timeouts and, in some engines,
into out-of-memory restarts.

How the dollars are computed. At risk, not recoverable: the GPUs' price times the share of work thrown back (preemptions per
finished request, or the share of requests that wait). With history: bins of 5 minutes in which the cache was at 95 % or more and
requests waited or were preempted / bins with requests; from three such bins and 5 % of them (or 1 % preempted). config claims
no dollars: engines queue, they do not fail; nor do oom and gpu-oom: what a restart lost is not known.

When it is wrong. A queue at low KV use is the sequence limit, not the cache, and does not fire. An offline batch wants a full
cache: there only preemptions count. A warm prefix cache reads 0 in vLLM V1 and is no pressure. gpu-oom is a likely cause, never more
than estimated: a liveness probe that fails under load looks the same.

What to do. FP8 KV cache, a lower max-num-seqs or max-model-len, another replica, or cards with more memory.";

pub(super) const CPU_GPU_IMBALANCE: &str = "\
What it finds. With history: bins of 5 minutes with a queue, or with at least half as many requests running as in the busiest
times (p95), in which CPU was throttled in 25 % of periods or used to 90 % of its limit while SM, tensor cores and DRAM were all
under 35 %. Twelve such bins and 10 % of those with requests are reported.
  spec         less CPU than the engine's processes need: vLLM's documented minimum is 2 x (A + DP + N + 1 if DP > 1) vCPU for A
               API servers, DP data-parallel ranks and N GPUs

Why it costs. The engine's core loop starves first; the GPU then waits between kernels while GPU utilization looks high.

How the dollars are computed. At risk: the GPUs' price x the share of such bins x the part of the GPU that lay idle for it
(1 - how busy it was then / the middle of how busy it is in its other bins with requests, 60 % where there are fewer than 20).
spec claims none: it is listed so that it can be mended.

When it is wrong. A light load needs less than the rule; a GPU whose profiling counters never leave 0 is not judged. For other
engines the formula is borrowed and the finding 'assumed'. Throttling is in cAdvisor's metrics, which a scan reads only from
Prometheus.

What to do. Raise the CPU request and limit of the GPU container.";

pub(super) const PARALLELISM_MISMATCH: &str = "\
What it finds. A server that holds more GPUs than tensor x pipeline x data parallelism uses.
  too-few      not running yet: it asks for fewer GPUs than its parallelism needs, and will not start

Why it costs. The GPUs beyond that product are never touched, but nobody else can have them.

How the dollars are computed. (held - used) GPUs of each replica. too-few: at risk, the GPUs that it asks for.

When it is wrong. What an engine takes without a flag differs: vLLM and SGLang one GPU, NIM, TGI and llama.cpp all of them. Where
that is not known, or the parallelism stands where it could not be read, it is not assessed. A running server whose model would
not fit the GPUs that its settings name, or of whose GPUs more are at work, refutes this: then a gap says so. Groups over several
nodes and replicas that Ray places are left out.

What to do. Lower the GPU request, or raise the parallelism if the load needs it.";

pub(super) const IDLE_SCHEDULE: &str = "\
What it finds. Servers with traffic that get no request in the same hours of every week seen: nights, weekends. Runs of two hours
and more count, twenty hours a week and more are reported.

Why it costs. GPUs held through the night cost as much as by day.

How the dollars are computed. Quiet hours of the week / 168 x the replicas that are always there (5th percentile over the window) x
their GPUs' price. Each run is shortened by a cold start: weights / 0.2 GB/s + 130 s. Taken after oversized-tier, of what stays.

When it is wrong. One week may be a holiday: with less than two weeks it is 'estimated' (--window 14d). Batch windows once a month
are not seen. Hours are UTC and begin at the scan's minute. An hour without samples is never called quiet.

What to do. A KEDA cron scaler or a CronJob that scales to zero and back. It stops the bill only where the pool scales down.";

pub(super) const COST_GROWTH: &str = "\
What it finds. A workload, namespace or cluster whose spend grew faster than its work between the window before and this one, also
when the work fell and the spend stayed.

Why it costs. It is the part of the bill that use does not explain.

How the dollars are computed. Spend is GPUs held x today's prices of their models (free GPUs too, for the cluster); work is output
tokens + 0.25 x prompt tokens, else requests, else GPU-busy time: the finest known in both windows. Excess = spend now - spend then x
work now / work then; reported from 10 % of spend and $0.50/h. A trend claims nothing and is in no total. The change of spend is split
exactly (LMDI): price (dearer GPUs), capacity (free GPUs), efficiency (GPUs per work), mix (which workloads), volume (all work), new,
gone.

When it is wrong. Holidays: both windows' dates are printed. A new model or tokenizer changes what a token is. Prices of then are not
known: a price list's change is not seen.

What to do. Look at the largest part, then at that workload's other findings.";

pub(super) const OVERSIZED_TIER: &str = "\
What it finds. Servers that a cheaper GPU tier, or fewer GPUs, would carry: same engine, weights, precision and context length.
A candidate must hold the model at the bad end of the memory model's band, 1.3 x the peak of KV tokens, 1.5 x the p95 of tokens
per second, tokens within 1.2 x today's latency or 50 ms, the first one within 1.2 x or 2 s, with enough CPU and memory beside
it, and save 20 % and $0.25/h at least.

Why it costs. An H100 costs several times an L4 or L40S; a 7B model with little traffic uses neither its memory nor its speed.

How the dollars are computed. What the replicas that stay hold now, minus what the cheapest candidate costs: the share price
where the cluster has the tier, else whole instances of this cloud's region. Free GPUs are never taken as free of charge.
tier_ratio in the evidence is cost held / cost needed. Replicas that over-replicated sends away are not counted again.
MIG instances are tiers of their own, at the price of their compute slices: for a whole card only those that the cluster
hands out. A server on an instance may also be told a smaller profile of its card that nobody made yet; then the card must be cut
anew, no patch is given, and only slices that keep memory of their own are counted. Slices are reusable: the card stays.

When it is wrong. Without history the busiest time is a rule (3 x the mean, and 3 requests): estimated. The time on a card
that the server does not run on is scaled from the latencies that it tells, by a step-time model whose constants come from
measured servers (a MIG instance's as its share of the card), and must hold at the end of a margin that one such scaling in
twenty exceeds; to AMD's cards, and to cards that nobody measured with such a model (dense, or a mixture of experts) it is not scaled:
they stay unknown, unless a server of this fleet runs such a model there. A prefix cache uses what looks like spare KV: estimated above 30 % hits.
Only the load that was seen counts: a launch next week is not in it.

What to do. Move one replica, put load on it, then the rest. The patch is given where it is complete.";

pub(super) const OVER_REPLICATED: &str = "\
What it finds. More replicas than the busiest five minutes need by tokens per second, by running requests and by KV cache, each
with 1.3 x headroom, and one more for a failure where fewer than four are needed.

Why it costs. A replica that is never needed costs as much as one that is.

How the dollars are computed. (replicas at the quietest - needed) x the GPUs of a replica, the cheapest ones first. Never below
the autoscaler's minimum, a disruption budget, or two.

When it is wrong. Replicas that are not alike (one model or adapter each, routing by prefix) cannot replace each other: annotate
them. StatefulSets and prefill or decode roles are left out. Without history peaks are a rule (3 x the mean): estimated.

What to do. Lower spec.replicas, or the autoscaler's target; watch the queue for a day.";

pub(super) const UNDERSIZED_TIER: &str = "\
What it finds. Servers that are not Ready, or restart, or of a manifest, and whose weights and configured context cannot fit
their GPUs, or their MIG instance, even at the good end of the memory model's band.

Why it costs. The GPUs are held by something that cannot start.

How the dollars are computed. At risk: the GPUs of the replicas that fail. Once the pod counts as stuck in dark-capacity, that
finding has the dollars and names this cause.

When it is wrong. A server that is Ready fits by definition: a contradicting model is a gap, never a finding. Unknown models
and borderline cases are not assessed, nor are partitions of AMD GPUs, whose memory depends on the memory mode. What a MIG
instance has is what drivers were seen to report for its profile; where none was, a wide band of its part of the card.

What to do. Use the placement that the finding names, quantized weights, or a shorter --max-model-len.";

pub(super) const SHARING_MISMATCH: &str = "\
What it finds. Time-sliced or MPS-shared GPUs asked for as if they were whole: a pod with several shares of one card (shares),
or vLLM servers on one card whose --gpu-memory-utilization adds up to more than 1 (memory); cards so busy that their sharers wait
for one another (crowded); and cards with few sharers each that together would do on fewer cards (spread).

Why it costs. Two shares of a card are not two cards: they bring neither memory nor time, and keep others out. Servers that ask
for more memory than the card has fail when they start. Two sharers of a card that is busy all the time each get half of it; a card
cut in eight for one sharer is a whole card for a small job.

How the dollars are computed. None are claimed: who is kept out is not known, and whether sharers fit on one card in memory is not
either. The price of the cards that could go is in the evidence.

When it is wrong. A server with --kv-cache-memory-bytes ignores its utilization, and is left out. Utilization is the device's, not
a sharer's: crowded says that the card is full, not whose work fills it.

What to do. One share a pod; utilizations that add up to less than 1, or MIG slices; fewer sharers for a busy card, more for a calm
one.";

pub(super) const MIG_LAYOUT: &str = "\
What it finds. MIG slices that are paid for and cannot be used as they lie: parts of a card that are in no instance although one
would fit (unpartitioned), and free instances of other sizes while a pod waits for one that is not there (mismatch).

Why it costs. A slice in no instance cannot be asked for at all, and a free 1g instance is no use to a pod that needs 3g.

How the dollars are computed. A slice costs its share of its card: 1/7 (A30 1/4). Unpartitioned: all such slices. Mismatch: as many
free slices as the waiting pods need, in whole profiles a node. They are taken off unallocated.

When it is wrong. Where instances lie is not told: free ones on one card cannot always be merged. Slices that the card's memory
leaves no room for (3g + 3g on 7) are no waste, and belong to the instances that are there.

What to do. Change the node's layout (label nvidia.com/mig.config), or let pods ask for what is free.";

pub(super) const CPU_PODS: &str = "\
What it finds. Pods without a GPU on GPU nodes that ask for a quarter of its CPU or memory, or that are alone on it, so that no
autoscaler can remove it. DaemonSets, mirror pods, GPU infrastructure and kube-system are left out.

Why it costs. GPUs beside them cannot be used for want of CPU, and an empty GPU node stays up for a pod that any node could run.

How the dollars are computed. None of its own: the GPUs are in stranded-gpu and dark-capacity.

When it is wrong. Front ends of a model sometimes belong beside it.

What to do. Taint GPU pools for GPU pods.";

pub(super) const LOW_UTILIZATION: &str = "\
What it finds. Jobs, notebooks and unknown pods whose GPUs are at work, and little of the time: a mean activity of a quarter or less
(low_utilization_mean) over at least 50 GPU-hours of the window (low_utilization_gpu_hours), on cards whose memory is not nearly full
(low_utilization_memory). One finding an owner: the owner label, else the namespace.

Why it costs. These GPUs are allocated, look busy on a dashboard, and could do several times the work: what fleet studies find most of.

How the dollars are computed. The price of the time that nothing ran: price x (1 - mean activity). It claims nothing and is in no total:
nobody can take those minutes away.

When it is wrong. Activity is the share of time with any kernel running: low activity is real, high activity may still be little work.
Debugging, checkpointing and work that waits for other machines are not waste of their owner's making.

What to do. Data loading, batch size, one process a GPU; then fewer GPUs, a MIG instance or a smaller card.";

pub(super) const SPEC_HYGIENE: &str = "\
What it finds. With 'gpuwaste check': GPU pods whose manifest pins no image version, asks for no CPU or memory, or for less host memory
than an LLM server's processes take beside the weights (host_memory_gib of the policy).

Why it costs. Another engine version needs another amount of GPU memory: a restart at night may no longer fit. Without requests the
scheduler puts other work beside it, and the GPU waits for CPU.

How the dollars are computed. None: it is listed without money.

When it is wrong. Clusters whose admission pins images or sets requests by itself.

What to do. Name a version or digest; set resources.requests.";
