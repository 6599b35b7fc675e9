//! Operators that serve models: Ray Serve, KServe, NIM, Dynamo, KAITO. Each object is turned into the containers its
//! operator would make, so that the engines read them as they read a live pod.

mod dynamo;
mod kaito;
mod kserve;
mod nim;
mod ray;

pub(super) use dynamo::{dynamo_component, dynamo_graph};
pub(super) use kaito::workspace;
pub(super) use kserve::{inference_service, llm_inference_service};
pub(super) use nim::nim_service;
pub(super) use ray::{ray_accelerator, ray_serve};

use crate::snapshot::server::{Setting, UnreadSetting};
use serde_json::Value;

fn flag(name: &str, value: &Value) -> Option<String> {
    let name = name.replace('_', "-");
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Bool(true) => Some(format!("--{name}")),
        Value::String(s) => Some(format!("--{name}={s}")),
        other => Some(format!("--{name}={other}")),
    }
}

pub(super) fn unread(setting: Setting, place: &str) -> UnreadSetting {
    UnreadSetting {
        setting,
        place: place.into(),
    }
}

/// A number or text as the word of a command line.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
