//! What names one machine: on the API (spec.providerID) and on its cloud's bill (FOCUS' ResourceId), as a digest, since accounts,
//! projects and subscriptions stand in both.

use sha2::{Digest, Sha256};

/// The first 8 bytes of a SHA-256, in hexadecimal.
pub(crate) fn digest(name: &str) -> String {
    let hash = Sha256::digest(name.as_bytes());
    hash.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Of a node's provider id. `None`: of a cloud whose bills are not known, or no machine's.
pub(crate) fn of_provider_id(id: &str) -> Option<String> {
    let (scheme, rest) = id.split_once("://").unwrap_or(("", id));
    let name = match scheme {
        "aws" => amazon(rest),
        "gce" => {
            // gce://PROJECT/ZONE/NAME
            let parts: Vec<&str> = rest.split('/').filter(|p| !p.is_empty()).collect();
            match parts[..] {
                [_, zone, name] => Some(google(zone, name)),
                _ => None,
            }
        }
        "azure" => azure(rest),
        // Oracle's is the bare id or stands behind its scheme.
        "oci" | "" => oracle(rest),
        _ => None,
    };
    name.map(|n| digest(&n))
}

/// Of a row's ResourceId, and its ResourceName where the id is a number.
pub(crate) fn of_resource(id: &str, name: Option<&str>) -> Option<String> {
    let found = if id.contains("compute.googleapis.com/") {
        // //compute.googleapis.com/projects/P/zones/ZONE/instances/NAME-OR-NUMBER
        let zone = after(id, "/zones/")?;
        let last = after(id, "/instances/")?;
        let own = name.and_then(|n| n.rsplit('/').next()).filter(|n| !n.is_empty());
        let numbered = last.bytes().all(|b| b.is_ascii_digit());
        Some(google(zone, if numbered { own? } else { last }))
    } else if id.to_ascii_lowercase().contains("/providers/microsoft.compute/") {
        azure(id)
    } else if id.starts_with("ocid") {
        oracle(id)
    } else if id.starts_with("arn:") {
        // arn:aws:ec2:REGION:ACCOUNT:instance/i-0abc
        id.rsplit_once(":instance/").and_then(|(_, id)| amazon(id))
    } else {
        amazon(id)
    };
    found.map(|n| digest(&n))
}

/// The path segment behind a word.
fn after<'a>(path: &'a str, word: &str) -> Option<&'a str> {
    let rest = &path[path.find(word)? + word.len()..];
    rest.split('/').next().filter(|s| !s.is_empty())
}

fn amazon(path: &str) -> Option<String> {
    let id = path.rsplit('/').next()?;
    let hex = id.strip_prefix("i-")?;
    (hex.len() >= 8 && hex.bytes().all(|b| b.is_ascii_alphanumeric()))
        .then(|| format!("aws/{}", id.to_ascii_lowercase()))
}

fn google(zone: &str, name: &str) -> String {
    format!("gce/{zone}/{name}")
}

/// A virtual machine, or the scale set that it belongs to: bills know no machine of one.
fn azure(path: &str) -> Option<String> {
    let path = path.to_ascii_lowercase();
    let path = path.trim_matches('/');
    let set = "/microsoft.compute/virtualmachinescalesets/";
    let kept = match path.find(set) {
        Some(at) => {
            let name = path[at + set.len()..].split('/').next()?;
            &path[..at + set.len() + name.len()]
        }
        None => path,
    };
    let ends = kept.contains(set) || kept.contains("/microsoft.compute/virtualmachines/");
    ends.then(|| format!("azure/{kept}"))
}

/// Whether several machines stand behind what a resource id names.
pub(crate) fn is_set(id: &str) -> bool {
    id.to_ascii_lowercase().contains("/virtualmachinescalesets/")
}

fn oracle(id: &str) -> Option<String> {
    id.starts_with("ocid1.instance.").then(|| format!("oci/{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_and_the_bill_name_a_machine_alike() {
        let set = "/subscriptions/9ec5/resourceGroups/MC_ml_ml_eastus/providers/Microsoft.Compute/virtualMachineScaleSets/aks-h100-37798712-vmss";
        let ocid = "ocid1.instance.oc1.phx.anyhqljrdsqlhbic";
        for (node, resource, name) in [
            ("aws:///us-west-2a/i-0abc12def34567890", "i-0abc12def34567890", None),
            (
                "aws:///us-west-2a/i-0abc12def34567890",
                "arn:aws:ec2:us-west-2:111122223333:instance/i-0abc12def34567890",
                None,
            ),
            (
                "gce://ml-prod/us-central1-a/gke-ml-a3-1f2e",
                "//compute.googleapis.com/projects/12/zones/us-central1-a/instances/8127",
                Some("gke-ml-a3-1f2e"),
            ),
            (
                "gce://ml-prod/us-central1-a/gke-ml-a3-1f2e",
                "//compute.googleapis.com/projects/ml-prod/zones/us-central1-a/instances/gke-ml-a3-1f2e",
                None,
            ),
            (
                &format!("azure://{set}/virtualMachines/3"),
                &set.to_lowercase(),
                Some("aks"),
            ),
            (ocid, ocid, None),
            (&format!("oci://{ocid}"), ocid, Some("")),
        ] {
            let billed = of_resource(resource, name);
            assert!(billed.is_some() && of_provider_id(node) == billed, "{node} {resource}");
        }
    }

    #[test]
    fn what_is_no_machine_names_none() {
        let disk = "/subscriptions/9ec5/resourcegroups/x/providers/microsoft.compute/disks/os";
        for id in [
            "vol-0abc12def34567890",
            "arn:aws:ec2:r:1:natgateway/nat-0fff56223a89b19",
            disk,
            "",
            "i-",
            "NULL",
        ] {
            assert_eq!(of_resource(id, None), None, "{id}");
        }
        let numbered = "//compute.googleapis.com/projects/12/zones/us-central1-a/instances/8127";
        assert_eq!(of_resource(numbered, None), None, "no node is called by a number");
        for id in [
            "kind://docker/kind/kind-worker",
            "aws:///us-east-1a/fargate-ip-10",
            "gce://p",
            "x",
        ] {
            assert_eq!(of_provider_id(id), None, "{id}");
        }
    }
}
