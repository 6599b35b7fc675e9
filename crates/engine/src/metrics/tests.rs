use super::exporter;
use super::*;
use crate::snapshot::gpu::GpuScrape;
use crate::units::{Bytes, Ratio, Tokens, Watts};
use proptest::prelude::*;

fn at() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn wanted(name: &str) -> bool {
    ENGINES.is_wanted(name)
}

fn engine(text: &str, expected: Option<EngineKind>) -> EnginePage {
    engine_page(text.as_bytes(), at(), expected).expect("an engine's page")
}

macro_rules! real {
    ($name:literal) => {
        include_str!(concat!("../../../../fixtures/raw/real/", $name))
    };
}

#[test]
fn a_real_vllm_under_kv_pressure_says_so() {
    let page = engine(real!("vllm-0.32/metrics-pressure-peak.txt"), None);
    let r = &page.reading;
    assert_eq!(page.engine, EngineKind::Vllm);
    // The poll caught it a moment after a preemption; 1.0 is seen between polls.
    assert!(r.kv_usage.is_some_and(|k| k > 0.7), "{:?}", r.kv_usage);
    assert!(
        r.waiting.is_some_and(|w| w >= 8.0) && r.running.is_some_and(|n| n >= 1.0),
        "{r:?}"
    );
    assert_eq!(page.identity.kv_capacity, Some(Tokens(2560)));
    assert_eq!(page.identity.max_model_len, Some(2048));
    assert!(page.process_started_at.is_some());
    let after = engine(real!("vllm-0.32/metrics-pressure-after.txt"), None).reading;
    assert!(after.preemptions.is_some_and(|p| p > 50.0), "{:?}", after.preemptions);
    assert!(after.requests.is_some_and(|n| n > 0.0) && after.output_tokens.is_some_and(|t| t > 0.0));
}

#[test]
fn a_sequence_limit_is_not_kv_pressure() {
    let r = engine(real!("vllm-0.32/metrics-c64-peak.txt"), None).reading;
    assert_eq!((r.running, r.waiting), (Some(8.0), Some(56.0)));
    assert!(r.kv_usage.is_some_and(|k| k < 0.01));
    assert_eq!(r.preemptions, Some(0.0));
    assert_eq!(
        r.prompt_length.as_ref().map(|h| (h.count, h.sum)),
        Some((350.0, 21000.0))
    );
    assert!(
        r.prompt_length
            .and_then(|h| h.quantile(0.5))
            .is_some_and(|q| (50.0..=100.0).contains(&q))
    );
}

#[test]
fn an_idle_server_has_zeroes_not_nothing() {
    for text in [real!("vllm-0.32/metrics-idle.txt"), real!("vllm-0.12/metrics-idle.txt")] {
        let page = engine(text, None);
        assert_eq!(
            (page.reading.requests, page.reading.output_tokens, page.reading.running),
            (Some(0.0), Some(0.0), Some(0.0))
        );
        assert_eq!(page.identity.served_names.len(), 1);
    }
}

#[test]
fn llamacpp_has_no_kv_figure_and_none_is_made_up() {
    let page = engine(real!("llamacpp/metrics-c64-peak.txt"), None);
    assert_eq!((page.engine, page.reading.kv_usage), (EngineKind::Llamacpp, None));
    assert!(page.reading.waiting.is_some_and(|w| w > 0.0));
    assert!(
        engine(real!("llamacpp/metrics-idle.txt"), None)
            .reading
            .output_tokens
            .is_some()
    );
}

#[test]
fn vllm_v0_and_both_kv_names() {
    let v0 = "vllm:num_requests_running{model_name=\"m\"} 3.0\nvllm:gpu_cache_usage_perc{model_name=\"m\"} 0.4\nvllm:num_preemptions_total{model_name=\"m\"} 2\n";
    assert_eq!(engine(v0, None).reading.kv_usage, Some(0.4));
    let both = "vllm:num_requests_running 1\nvllm:kv_cache_usage_perc 0.5\nvllm:gpu_cache_usage_perc 0.5\n";
    assert_eq!(engine(both, None).reading.kv_usage, Some(0.5));
}

#[test]
fn data_parallel_engines_add_up_and_the_fullest_cache_counts() {
    let text = "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3\nvllm:num_requests_running{engine=\"1\",model_name=\"m\"} 5\nvllm:kv_cache_usage_perc{engine=\"0\"} 0.2\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.9\n\
                vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"1000\",engine=\"0\"} 1\n";
    let page = engine(text, None);
    assert_eq!(
        (page.reading.running, page.reading.kv_usage, page.identity.engines),
        (Some(8.0), Some(0.9), Some(2))
    );
    assert_eq!(page.identity.kv_capacity, Some(Tokens(16_000)));
    let none = engine(
        "vllm:num_requests_running 0\nvllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"None\"} 1\n",
        None,
    );
    assert_eq!(none.identity.kv_capacity, None, "early V1 shows None");
}

#[test]
fn a_routers_copies_are_not_its_own_work() {
    let text = "vllm:num_requests_running{server=\"http://10.0.0.1:8000\"} 7\nvllm:num_requests_waiting{server=\"http://10.0.0.1:8000\"} 2\n";
    let page = engine(text, None);
    assert_eq!((page.reading.running, page.reading.waiting), (None, None));
}

#[test]
fn sglang_ranks_are_one_server_and_streams_add_up() {
    let text = "sglang:num_running_reqs{model_name=\"m\",tp_rank=\"0\",dp_rank=\"0\"} 4\nsglang:num_running_reqs{model_name=\"m\",tp_rank=\"1\",dp_rank=\"0\"} 4\n\
                sglang:num_running_reqs{model_name=\"m\",tp_rank=\"0\",dp_rank=\"1\"} 2\nsglang:num_requests_total{is_streaming=\"true\"} 10\nsglang:num_requests_total{is_streaming=\"false\"} 5\n\
                sglang:token_usage{tp_rank=\"0\"} 0.7\nsglang:max_total_num_tokens{tp_rank=\"0\"} 400000\n";
    let page = engine(text, None);
    assert_eq!(page.engine, EngineKind::Sglang);
    assert_eq!((page.reading.running, page.reading.requests), (Some(6.0), Some(15.0)));
    assert_eq!(page.identity.kv_capacity, Some(Tokens(400_000)));
}

#[test]
fn tgi_triton_and_nim() {
    let tgi = engine(
        "tgi_request_count{method=\"generate\"} 12\ntgi_request_generated_tokens_sum 900\ntgi_request_generated_tokens_count 12\ntgi_queue_size 0\n",
        None,
    );
    assert_eq!(
        (
            tgi.engine,
            tgi.reading.requests,
            tgi.reading.output_tokens,
            tgi.reading.kv_usage
        ),
        (EngineKind::Tgi, Some(12.0), Some(900.0), None)
    );
    let triton = "nv_inference_request_success{model=\"a\",version=\"1\"} 3\nnv_inference_request_success{model=\"b\",version=\"1\"} 4\n\
                  nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"used\",model=\"a\",version=\"1\"} 30\nnv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"max\",model=\"a\",version=\"1\"} 120\n\
                  nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"tokens_per\",model=\"a\",version=\"1\"} 32\n";
    let page = engine(triton, None);
    assert_eq!(
        (page.engine, page.reading.requests, page.reading.kv_usage),
        (EngineKind::Triton, Some(7.0), Some(0.25))
    );
    assert_eq!(page.identity.kv_capacity, Some(Tokens(3840)));
    let bare = "num_requests_running{model_name=\"meta/llama\"} 1\nprompt_tokens_total{model_name=\"meta/llama\"} 5\n";
    assert_eq!(
        engine_page(bare.as_bytes(), at(), None),
        None,
        "bare names are anybody's"
    );
    assert_eq!(engine(bare, Some(EngineKind::Nim)).engine, EngineKind::Nim);
}

#[test]
fn not_a_number_is_not_a_value() {
    let page = engine(
        "vllm:num_requests_running NaN\nvllm:num_requests_running{engine=\"1\"} +Inf\nvllm:prompt_tokens_total 5\n",
        None,
    );
    assert_eq!((page.reading.running, page.reading.prompt_tokens), (None, Some(5.0)));
}

#[test]
fn duplicates_count_once() {
    let page = engine(
        "vllm:prompt_tokens_total{m=\"a\"} 5\nvllm:prompt_tokens_total{m=\"a\"} 5\n",
        None,
    );
    assert_eq!(page.reading.prompt_tokens, Some(5.0));
}

#[test]
fn other_pages_are_no_engine() {
    for text in [
        "",
        "<!DOCTYPE html><html>login</html>",
        "go_goroutines 5\n",
        "\u{0}\u{1}\u{2}",
        "vllm:num_requests_runn",
    ] {
        assert_eq!(engine_page(text.as_bytes(), at(), None), None, "{text}");
    }
    let cut = "vllm:num_requests_running 3\nvllm:prompt_tokens_total{model_name=\"m";
    assert_eq!(
        engine(cut, None).reading.prompt_tokens,
        None,
        "a line cut in half is no value"
    );
}

fn gpus(text: &str) -> Vec<GpuScrape> {
    exporter::page(text.as_bytes(), at(), "node-1")
}

const OLD: &str = "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-a\",modelName=\"NVIDIA L4\",Hostname=\"dcgm-exporter-x\",pod=\"p\",namespace=\"n\",container=\"c\"} 97\n\
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu=\"0\",UUID=\"GPU-a\"} 0.9\nDCGM_FI_PROF_PIPE_TENSOR_ACTIVE{gpu=\"0\",UUID=\"GPU-a\"} 0.3\nDCGM_FI_DEV_POWER_USAGE{gpu=\"0\",UUID=\"GPU-a\"} 70.5\n\
DCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"GPU-a\"} 20000\nDCGM_FI_DEV_FB_FREE{gpu=\"0\",UUID=\"GPU-a\"} 2500\nDCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu=\"0\",UUID=\"GPU-a\"} 5000\n";

const NEW: &str = "DCGM_FI_DEV_GPU_UTIL_RATIO{gpu=\"0\",UUID=\"GPU-a\",modelName=\"NVIDIA L4\",hostname=\"h\",pod=\"p\",namespace=\"n\",container=\"c\"} 0.97\n\
DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO{gpu=\"0\",UUID=\"GPU-a\"} 0.9\nDCGM_FI_PROF_TENSOR_UTIL_RATIO{gpu=\"0\",UUID=\"GPU-a\"} 0.3\nDCGM_FI_DEV_BOARD_POWER_WATTS{gpu=\"0\",UUID=\"GPU-a\"} 70.5\n\
DCGM_FI_DEV_FB_USED_BYTES{gpu=\"0\",UUID=\"GPU-a\"} 20971520000\nDCGM_FI_DEV_FB_FREE_BYTES{gpu=\"0\",UUID=\"GPU-a\"} 2621440000\nDCGM_FI_DEV_GPU_ENERGY_JOULES_TOTAL{gpu=\"0\",UUID=\"GPU-a\"} 5\n";

#[test]
fn both_generations_of_dcgm_say_the_same() {
    use crate::snapshot::gpu::Generation;
    let (old, mut new) = (gpus(OLD), gpus(NEW));
    assert_eq!(old[0].generation, Some(Generation::Dcgm));
    assert_eq!(
        new[0].generation.replace(Generation::Dcgm),
        Some(Generation::DcgmBaseUnits)
    );
    assert_eq!(old, new);
    let reading = &old[0].readings[0];
    assert_eq!(
        (reading.gpu_util, reading.gr_engine, reading.power),
        (Some(Ratio(0.97)), Some(Ratio(0.9)), Some(Watts(70.5)))
    );
    assert_eq!(reading.memory_total, Some(Bytes(22500 << 20)));
    assert_eq!(reading.energy_joules, Some(5.0));
    assert_eq!(
        old[0].node, "node-1",
        "the exporter's own host label may be its pod's name"
    );
    assert_eq!(old[0].holders.len(), 1);
}

#[test]
fn a_ratio_name_with_percent_values_is_percent() {
    let text = "DCGM_FI_DEV_GPU_UTIL_RATIO{gpu=\"0\",UUID=\"GPU-a\"} 97\n";
    assert_eq!(gpus(text)[0].readings[0].gpu_util, Some(Ratio(0.97)));
}

#[test]
fn blanks_are_not_values() {
    let text = "DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu=\"0\",UUID=\"GPU-a\"} 9223372036854775794\nDCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-a\"} 9223372036854775794\nDCGM_FI_DEV_POWER_USAGE{gpu=\"0\",UUID=\"GPU-a\"} 60\n";
    let reading = gpus(text)[0].readings[0].clone();
    assert_eq!(
        (reading.gr_engine, reading.gpu_util, reading.power),
        (None, None, Some(Watts(60.0)))
    );
}

#[test]
fn a_mig_parent_is_not_added_to_its_children() {
    let text = "DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu=\"0\",UUID=\"GPU-a\"} 0.5\nDCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu=\"0\",UUID=\"GPU-a\",GPU_I_PROFILE=\"3g.40gb\",GPU_I_ID=\"1\"} 0.8\n\
                DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu=\"0\",UUID=\"GPU-a\",GPU_I_PROFILE=\"3g.40gb\",GPU_I_ID=\"2\"} 0.1\n";
    let found = gpus(text);
    assert_eq!(found.len(), 2);
    assert!(
        found
            .iter()
            .all(|g| g.mig.as_ref().is_some_and(|m| m.profile == "3g.40gb"))
    );
    assert!(
        found.iter().all(|g| g.readings[0].gpu_util.is_none()),
        "GPU_UTIL is absent on MIG: not zero"
    );
}

#[test]
fn time_sliced_duplicates_are_one_device_with_several_holders() {
    let row = |pod: &str| {
        format!(
            "DCGM_FI_DEV_GPU_UTIL{{gpu=\"0\",UUID=\"GPU-a\",pod=\"{pod}\",namespace=\"n\",container=\"c\",vgpu=\"1\"}} 40\n"
        )
    };
    let found = gpus(&format!("{}{}", row("a"), row("b")));
    assert_eq!((found.len(), found[0].holders.len()), (1, 2));
    assert_eq!(found[0].readings[0].gpu_util, Some(Ratio(0.4)));
}

#[test]
fn the_exporter_itself_holds_nothing() {
    let text = "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-a\",pod=\"nvidia-dcgm-exporter-abc\",namespace=\"gpu-operator\",container=\"nvidia-dcgm-exporter\"} 0\n";
    assert!(gpus(text)[0].holders.is_empty() && gpus(text)[0].maps_pods);
}

#[test]
fn amd_partitions_beyond_the_first_are_unknown_not_idle() {
    let text = "gpu_gfx_activity{gpu_id=\"0\",serial_number=\"S\",card_model=\"MI300X\",gpu_partition_id=\"0\",pod=\"\",namespace=\"\"} 55\n\
                gpu_gfx_activity{gpu_id=\"1\",serial_number=\"S\",gpu_partition_id=\"1\",pod=\"\"} 0\ngpu_package_power{gpu_id=\"0\",serial_number=\"S\",gpu_partition_id=\"0\"} 3.1e2\n";
    let found = gpus(text);
    let values: Vec<_> = found.iter().map(|g| g.readings[0].gpu_util).collect();
    assert!(values.contains(&None), "{values:?}");
    assert!(found.iter().all(|g| g.holders.is_empty()));
}

#[test]
fn amd_guests_and_the_first_releases_are_whole_devices() {
    // A virtual machine: no serial number, no pod, and "NA" where a partition would stand.
    let guest = "gpu_gfx_activity{card_model=\"\",gpu_id=\"0\",gpu_partition_id=\"NA\",pod=\"\",namespace=\"\",serial_number=\"\"} 1.2e1\n\
                 gpu_used_vram{card_model=\"\",gpu_id=\"0\",gpu_partition_id=\"NA\",pod=\"\",serial_number=\"\"} 26\n";
    let found = gpus(guest);
    assert_eq!(
        (found.len(), found[0].mig.is_none(), found[0].readings[0].gpu_util),
        (1, true, Some(Ratio(0.12)))
    );
    let first = "gpu_usage{GPU_UUID=\"6699c0a8\",SERIAL_NUMBER=\"692247001282\"} 40\n\
                 gpu_total_memory{GPU_UUID=\"6699c0a8\",SERIAL_NUMBER=\"692247001282\"} 68702\n\
                 gpu_average_package_power{GPU_UUID=\"6699c0a8\",SERIAL_NUMBER=\"692247001282\"} 41\n";
    let found = gpus(first);
    assert_eq!((found.len(), found[0].uuid.as_deref()), (1, Some("6699c0a8")));
    let reading = &found[0].readings[0];
    assert_eq!(
        (reading.gpu_util, reading.power.map(|p| p.0)),
        (Some(Ratio(0.4)), Some(41.0))
    );
    assert_eq!(reading.memory_total.map(|m| m.0), Some(68_702_000_000));
}

#[test]
fn json_answers_correct_the_spec() {
    let mut identity = ServerIdentity::default();
    let body = real!("vllm-0.32/idle-v1_models.http")
        .split("\r\n\r\n")
        .last()
        .unwrap_or("");
    let body = &body[body.find('{').unwrap()..];
    ENGINES.identify(EngineKind::Vllm, "/v1/models", body.as_bytes(), &mut identity);
    assert_eq!(
        (identity.model_root.as_deref(), identity.max_model_len),
        (Some("/models/tiny"), Some(2048))
    );
    ENGINES.identify(
        EngineKind::Vllm,
        "/v1/models",
        br#"{"data":[{"id":"base","root":"org/m","parent":null},{"id":"lora","root":"/l","parent":"base"}]}"#,
        &mut identity,
    );
    assert_eq!(identity.lora_names, ["lora"]);
    ENGINES.identify(
        EngineKind::Sglang,
        "/get_server_info",
        br#"{"model_path":"o/m","max_total_num_tokens":5,"context_length":7}"#,
        &mut ServerIdentity::default(),
    );
    ENGINES.identify(EngineKind::Tgi, "/info", b"not json", &mut identity);
}

proptest! {
    /// The byte-level filter loses nothing that the tables read.
    #[test]
    fn filtering_first_is_the_same_as_parsing_all(lines in proptest::collection::vec(("(vllm:num_requests_running|vllm:prompt_tokens_total|go_threads|process_start_time_seconds|x:y|vllm:z_created)", "(\\{a=\"[a-z]{0,3}\"\\})?", 0u32..1000), 0..30)) {
        let text: String = lines.iter().map(|(n, l, v)| format!("{n}{l} {v}\n")).collect();
        let filtered = Page::parse(text.as_bytes(), wanted);
        let all = Page::parse(text.as_bytes(), |_| true);
        for name in ["vllm_num_requests_running", "vllm_prompt_tokens_total", "process_start_time_seconds"] {
            prop_assert_eq!(filtered.series(name), all.series(name));
        }
        prop_assert!(!filtered.has("go_threads") && !filtered.has("vllm_z_created"));
    }

    #[test]
    fn no_page_panics(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = engine_page(&text, at(), Some(EngineKind::Nim));
        let _ = exporter::page(&text, at(), "n");
    }
}

proptest! {
    /// The same on pages as servers write them: lines moved, doubled, cut and damaged.
    #[test]
    fn filtering_real_pages_first_is_the_same_as_parsing_all(edits in proptest::collection::vec((any::<proptest::sample::Index>(), 0u8..5, any::<proptest::sample::Index>(), any::<u8>()), 0..40)) {
        let mut lines: Vec<Vec<u8>> = real!("vllm-0.32/metrics-pressure-peak.txt").lines().map(|l| l.as_bytes().to_vec()).collect();
        for (at, edit, place, byte) in edits {
            let at = at.index(lines.len());
            match edit {
                0 => { let line = lines.remove(at); lines.push(line); }
                1 => { let line = lines[at].clone(); lines.insert(at, line); }
                2 => { let to = place.index(lines[at].len() + 1); lines[at].truncate(to); }
                // Not a quote: one that is missing makes prometheus-parse read on into the next label.
                3 if !lines[at].is_empty() && byte != b'"' && byte != b'\n' => {
                    let to = place.index(lines[at].len());
                    if lines[at][to] != b'"' { lines[at][to] = byte; }
                }
                _ => lines[at].extend(b" 1700000000000"),
            }
        }
        let text = lines.join(&b'\n');
        let (filtered, all) = (Page::parse(&text, wanted), Page::parse(&text, |_| true));
        for name in ["vllm_num_requests_running", "vllm_kv_cache_usage_perc", "vllm_prompt_tokens_total", "vllm_e2e_request_latency_seconds_bucket", "vllm_cache_config_info", "process_start_time_seconds"] {
            prop_assert_eq!(filtered.series(name), all.series(name), "{}", name);
        }
    }
}
