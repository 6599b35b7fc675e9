//! Spark on Kubernetes: a driver and executors, each with the GPUs that the application or its configuration names.

use super::around::overlay;
use super::count::Count;
use super::kinds::{Unit, member, text};
use serde_json::{Value, json};

/// `SparkApplication` and `SparkConnect` (kubeflow/spark-operator): `driver` or `server`, and `executor`.
pub(super) fn application(spec: &Value, path: &str) -> Vec<Unit> {
    let mut members = Vec::new();
    for (key, role) in [("driver", "driver"), ("server", "driver"), ("executor", "executor")] {
        let of = &spec[key];
        if !of.is_object() {
            continue;
        }
        let count = if role == "driver" {
            Count::Known(1)
        } else {
            executors(spec)
        };
        members.push(member(count, pod(spec, of, role), &format!("{path}.{key}")));
    }
    vec![Unit {
        replicas: 1.into(),
        members,
        ..Unit::default()
    }]
}

/// Settings of Spark itself, which the operator hands on.
fn conf<'s>(spec: &'s Value, key: &str) -> &'s Value {
    &spec["sparkConf"][key]
}

/// Executors: as many as are stated; with dynamic allocation those it begins with, where the most is not another number.
fn executors(spec: &Value) -> Count {
    let dynamic = &spec["dynamicAllocation"];
    let on = dynamic["enabled"] == true || conf(spec, "spark.dynamicAllocation.enabled") == "true";
    if on {
        let of = |own: &str, key: &str| {
            let stated = &dynamic[own];
            if stated.is_null() {
                conf(spec, key).clone()
            } else {
                stated.clone()
            }
        };
        let least = of("minExecutors", "spark.dynamicAllocation.minExecutors");
        let most = of("maxExecutors", "spark.dynamicAllocation.maxExecutors");
        let same = !least.is_null() && Count::of(&least, 0) == Count::of(&most, 0);
        return if same {
            Count::of(&least, 0)
        } else {
            Count::Unknown("as many executors as dynamic allocation starts".into())
        };
    }
    let stated = [&spec["executor"]["instances"], conf(spec, "spark.executor.instances")];
    Count::of(stated.into_iter().find(|v| !v.is_null()).unwrap_or(&Value::Null), 1)
}

/// The pod of a driver or an executor: its own template, with the GPUs and amounts of the role on top.
fn pod(spec: &Value, of: &Value, role: &str) -> Value {
    let mut limits = json!({});
    let gpu = &of["gpu"];
    let of_conf = |what: &str| conf(spec, &format!("spark.{role}.resource.gpu.{what}"));
    let vendor = text(of_conf("vendor")).unwrap_or_else(|| "nvidia.com".into());
    let asked = if gpu.is_object() {
        let resource = text(&gpu["name"]).unwrap_or_else(|| "nvidia.com/gpu".into());
        Some((resource, gpu["quantity"].clone()))
    } else {
        let amount = of_conf("amount").clone();
        (!amount.is_null()).then(|| (format!("{vendor}/gpu"), amount))
    };
    if let Some((resource, quantity)) = asked {
        limits[resource.as_str()] = quantity;
    }
    // Spark's sizes are JVM's ("32g"); what a pod asks for is more by its overhead, so that they are no requests here.
    let cores = [&of["coreRequest"], &of["cores"]].into_iter().find(|v| !v.is_null());
    let mut requests = json!({});
    if let Some(cores) = cores {
        requests["cpu"] = cores.clone();
    }
    let memory = text(&of["memory"]).or_else(|| text(conf(spec, &format!("spark.{role}.memory"))));
    if let Some(memory) = memory.and_then(|m| jvm_size(&m)) {
        requests["memory"] = json!(memory);
    }
    let image = text(&of["image"]).or_else(|| text(&spec["image"]));
    let name = format!("spark-kubernetes-{role}");
    let own = json!({
        "metadata": {"labels": of["labels"]},
        "spec": {
            "containers": [{"name": name, "image": image, "env": of["env"], "resources": {"limits": limits, "requests": requests}}],
            "nodeSelector": if of["nodeSelector"].is_null() { &spec["nodeSelector"] } else { &of["nodeSelector"] },
            "affinity": of["affinity"], "tolerations": of["tolerations"],
        }
    });
    // A pod template's first container is the one that runs Spark, whatever it is called.
    let mut template = of["template"].clone();
    if let Some(first) = template
        .pointer_mut("/spec/containers/0")
        .and_then(Value::as_object_mut)
    {
        first.insert("name".into(), json!(name));
    }
    overlay(&template, &own)
}

/// "32g" as a quantity: "32Gi".
fn jvm_size(text: &str) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (number, unit) = lower.split_at(lower.len().checked_sub(1)?);
    let unit = match unit {
        "k" => "Ki",
        "m" => "Mi",
        "g" => "Gi",
        "t" => "Ti",
        _ => return None,
    };
    number.parse::<u64>().ok().map(|n| format!("{n}{unit}"))
}

/// A container that runs `spark-submit` starts its executors in pods of their own, which no manifest shows: the GPUs of each,
/// as far as its words say that there are any.
pub(super) fn submits_gpus(container: &Value) -> bool {
    let words = ["command", "args"]
        .iter()
        .flat_map(|k| container[*k].as_array().into_iter().flatten());
    let text: String = words.filter_map(Value::as_str).flat_map(|w| [w, " "]).collect();
    text.contains("spark.executor.resource.gpu.amount") || text.contains("spark.driver.resource.gpu.amount")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(spec: &Value) -> Vec<(Count, Value)> {
        let units = application(spec, "spec");
        let of = |m: &super::super::kinds::Member| {
            (
                m.count.clone(),
                m.template["spec"]["containers"][0]["resources"]["limits"].clone(),
            )
        };
        units[0].members.iter().map(of).collect()
    }

    #[test]
    fn gpus_of_drivers_and_executors() {
        let spec = json!({"driver": {"cores": 1}, "executor": {"instances": 4, "memory": "32g", "gpu": {"name": "nvidia.com/gpu", "quantity": 1}}});
        assert_eq!(
            asked(&spec),
            [(1.into(), json!({})), (4.into(), json!({"nvidia.com/gpu": 1}))]
        );
        let units = application(&spec, "spec");
        let resources = &units[0].members[1].template["spec"]["containers"][0]["resources"];
        assert_eq!(resources["requests"]["memory"], "32Gi");
        let by_conf = json!({"driver": {}, "executor": {}, "sparkConf": {"spark.executor.instances": "3", "spark.executor.resource.gpu.amount": "2", "spark.executor.resource.gpu.vendor": "amd.com"}});
        assert_eq!(asked(&by_conf)[1], (3.into(), json!({"amd.com/gpu": "2"})));
        let dynamic = |least: u64| json!({"executor": {"gpu": {"quantity": 1}}, "dynamicAllocation": {"enabled": true, "minExecutors": least, "maxExecutors": 5}});
        assert_eq!(asked(&dynamic(5))[0].0, Count::Known(5));
        assert!(matches!(asked(&dynamic(1))[0].0, Count::Unknown(_)));
        let placeholder = json!({"executor": {"instances": "${N}", "gpu": {"quantity": 1}}});
        assert!(matches!(asked(&placeholder)[0].0, Count::Unknown(_)));
        let template = json!({"executor": {"instances": 2, "template": {"spec": {"containers": [{"name": "x", "resources": {"limits": {"nvidia.com/gpu": 1}}}]}}}});
        assert_eq!(asked(&template), [(2.into(), json!({"nvidia.com/gpu": 1}))]);
    }

    #[test]
    fn a_submission_is_seen() {
        let submit = json!({"args": ["spark-submit", "--conf", "spark.executor.resource.gpu.amount=1"]});
        assert!(submits_gpus(&submit) && !submits_gpus(&json!({"args": ["spark-submit"]})));
    }
}
