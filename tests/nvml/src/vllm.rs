//! Looks like an idle vLLM to whoever reads its command line and its metrics: `vllm serve MODEL --port N`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let after = |flag: &str| {
        words
            .iter()
            .position(|w| w == flag)
            .and_then(|at| words.get(at + 1))
            .cloned()
    };
    let model = after("serve").expect("vllm serve MODEL --port N");
    let port: u16 = after("--port").expect("--port N").parse().expect("a port");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    println!("ready");
    let started = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() - 3 * 86_400;
    let metrics = format!(
        "process_start_time_seconds {started}\n\
         # TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{{engine=\"0\",model_name=\"{model}\"}} 0\n\
         # TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{{engine=\"0\",model_name=\"{model}\"}} 0\n\
         # TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{{engine=\"0\",model_name=\"{model}\"}} 0\n\
         # TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total{{engine=\"0\",model_name=\"{model}\"}} 0\n\
         # TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total{{engine=\"0\",model_name=\"{model}\"}} 0\n\
         # TYPE vllm:request_success_total counter\nvllm:request_success_total{{engine=\"0\",finished_reason=\"stop\",model_name=\"{model}\"}} 0\n"
    );
    for connection in listener.incoming() {
        let Ok(mut connection) = connection else { continue };
        let mut request = [0; 2048];
        let Ok(length) = connection.read(&mut request) else {
            continue;
        };
        let path = String::from_utf8_lossy(&request[..length]);
        let (status, body) = match path.split_whitespace().nth(1) {
            Some("/metrics") => ("200 OK", metrics.as_str()),
            _ => ("404 Not Found", ""),
        };
        let _ = write!(
            connection,
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }
}
