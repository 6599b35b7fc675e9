//! The worked examples of `gpuwaste explain`: sentences about findings of the demo, with places for their figures. What a
//! place means is in `report::example`; the figures are never written here, so they are always the demo's.
//!
//! An indented line is a sum that holds: a test works it out.

/// One finding of the demo, explained.
pub struct Example {
    pub check: &'static str,
    pub part: Option<&'static str>,
    /// The finding's subject: a workload's name or a pool's.
    pub subject: &'static str,
    pub text: &'static str,
}

const fn example(
    check: &'static str,
    part: Option<&'static str>,
    subject: &'static str,
    text: &'static str,
) -> Example {
    Example {
        check,
        part,
        subject,
        text,
    }
}

pub const EXAMPLES: &[Example] = &[
    example(
        "dark-capacity",
        Some("unallocated"),
        "h100",
        "\
{title} of {cluster}. A {instance} costs {node} and has {node_gpus} GPUs:
    {node} / {node_gpus} = {price}
    {gpus} x {price} = {usd}
{now} of it is 'now': nodes that are wholly free can go, and their bill stops. GPUs free on part-empty nodes are 'reusable'.",
    ),
    example(
        "dark-capacity",
        Some("unhealthy"),
        "g2-l4",
        "\
{title}.
    {gpus} x {price} = {usd}
Reusable, since the cloud bills the node until somebody repairs or deletes it.",
    ),
    example(
        "dark-capacity",
        Some("stuck"),
        "llama-405b-eval",
        "\
{title}, {restarts} restarts so far.
    {gpus} x {price} = {usd}
It is {sure}: the pod's own conditions have the date since when it is not Ready.",
    ),
    example(
        "dark-capacity",
        Some("idle"),
        "mixtral-legacy",
        "\
{title}: its counters say {requests} requests and {output_tokens} output tokens, and its GPUs draw {power_mean} on average.
    {gpus} x {price} = {usd}",
    ),
    example(
        "stranded-gpu",
        Some("host"),
        "l40s",
        "\
{title}. {cpu_left} are left there where {cpu_left:expected} would feed them, so {usable_gpus} of {free_gpus} can be used:
    ({free_gpus} - {usable_gpus}) x {price} = {usd}
Their cost is here and not in 'unallocated', which has the pool's other free GPUs.",
    ),
    example(
        "stranded-gpu",
        Some("scatter"),
        "a3-h100",
        "\
{title}: at most {most_free_on_one_node} are on one node.
    {free_gpus_on_matching_nodes} x {price} = {usd}",
    ),
    example(
        "undersized-tier",
        None,
        "llama-405b-trial",
        "\
{title}: the weights take {weights_per_gpu} of each GPU's {weights_per_gpu:expected}, and the engine needs room beside them.
    {gpus} x {price} = {usd}
At risk: it has restarted {restarts} times and is not yet stuck for an hour. From then on the same GPUs are in dark-capacity/stuck.",
    ),
    example(
        "oversized-tier",
        None,
        "intent-router-7b",
        "\
{title}. The replicas that stay cost {cost_held}, the cheapest tier that passes everything {cost_held:expected}:
    {cost_held} - {cost_held:expected} = {usd}
    {cost_held} / {cost_held:expected} = {tier_ratio}
The KV cache is at most {kv_cache_peak:%} full, and tokens would come every {target_inter_token_latency:ms} instead of {inter_token_latency_p95:ms}, where {target_inter_token_latency:expected:ms} is allowed.",
    ),
    example(
        "over-replicated",
        None,
        "ticket-mistral-7b",
        "\
{title}: {needed_by_tokens} by tokens, {needed_by_sequences} by running requests, {needed_by_kv_cache} by KV cache; the most of these, and one more that may fail, is {replicas_low:expected}.
    ({replicas_low} - {replicas_low:expected}) x {price} = {usd}",
    ),
    example(
        "kv-pressure",
        None,
        "r1-distill-70b",
        "\
{title}: {bad_bins} of five minutes, where {bad_bins:expected} would do.
    {gpus} x {price} x {bad_share_of_traffic:%} = {usd}
At risk, since the GPUs do work, but {preemptions_per_request:%} as many requests were thrown back and computed again as were finished.",
    ),
    example(
        "kv-pressure",
        Some("config"),
        "r1-distill-70b",
        "\
{title}: {max_num_seqs} of {usual_length} each, in a cache of {kv_capacity}. No dollars: it queues.",
    ),
    example(
        "cpu-gpu-imbalance",
        None,
        "coder-14b",
        "\
{title}. Well fed, they are {gpu_busy_fed:%} busy:
    {gpus} x {price} x {starved_share_of_traffic:%} x (1 - {gpu_busy_starved:%} / {gpu_busy_fed:%}) = {usd}",
    ),
    example(
        "cpu-gpu-imbalance",
        Some("spec"),
        "coder-14b",
        "\
{title}: 2 x (1 API server + 1 rank + 1 GPU).
    2 x (1 + 1 + 1) = {vcpu:expected}",
    ),
    example(
        "parallelism-mismatch",
        None,
        "gpt-oss-120b",
        "\
{title}.
    ({gpus_held_per_replica} - {gpus_used_per_replica}) x {price} = {usd}",
    ),
    example(
        "idle-schedule",
        None,
        "hr-assistant-27b",
        "\
{title} (UTC): {idle_hours_utc}. Each run is shortened by a cold start of {cold_start}.
    {gpus} x {price} x {idle_hours_per_week} / 168 = {usd}",
    ),
    example(
        "cost-growth",
        Some("workload"),
        "qwen3-32b",
        "\
{title}. Its GPUs stayed while its work went from {work_before} to {work_now}:
    {spend_now} - {spend_before} x {work_now} / {work_before} = {usd}
A million tokens cost {usd_per_million_tokens_before} before and {usd_per_million_tokens_now} now.",
    ),
    example(
        "sharing-mismatch",
        Some("memory"),
        "spam-1b5",
        "\
{title}: {servers_on_the_card}, {gpu_memory_utilization_sum:%} in all, where a card has 100 %. No dollars are claimed.",
    ),
    example(
        "cpu-pods-on-gpu-node",
        None,
        "l40s",
        "\
{title}: {largest} asks for {largest_share_of_a_node:%} of it. The dollars are in stranded-gpu.",
    ),
];
