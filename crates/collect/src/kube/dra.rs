//! Dynamic resource allocation: what drivers publish and who holds it, in whichever version the API server serves.

use super::Gaps;
use super::answer::{ApiObject, Served};
use super::api::{Api, List, Listed, ReadError};
use super::path::{Name, Resource};
use super::quantity;
use super::raw::{RawMeta, RawTaint, lenient};
use super::some;
use crate::snapshot::Gap;
use crate::snapshot::cluster::Taint;
use crate::snapshot::dra::{
    AllocatedDevice, Device, DeviceClass, DevicePool, DeviceRequest, Dra, GPU_DRIVERS, PodRef, ResourceClaim,
    is_gpu_driver,
};
use crate::units::Bytes;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Versions with structured parameters, newest first: GA in Kubernetes 1.34, 1.33, 1.32.
const VERSIONS: &[&str] = &["v1", "v1beta2", "v1beta1"];
pub(super) const GROUP: &str = "resource.k8s.io";
pub(super) const SLICES: Resource<'_> = Resource::new(GROUP, "v1", "resourceslices", "ResourceSlice");
pub(super) const CLASSES: Resource<'_> = Resource::new(GROUP, "v1", "deviceclasses", "DeviceClass");
pub(super) const CLAIMS: Resource<'_> = Resource::new(GROUP, "v1", "resourceclaims", "ResourceClaim");

/// `None`: the API server does not serve resource.k8s.io, by its own word.
pub(super) async fn read(api: &Api, served: Option<&Served>, namespaces: &[Name], gaps: &mut Gaps) -> Option<Dra> {
    let version = match served {
        Some(served) => {
            let has = |v: &&&str| served.versions(GROUP).iter().any(|s| s == **v);
            VERSIONS.iter().find(has).copied()?
        }
        // Whether it is served is not told: the reads below say what comes of it.
        None => VERSIONS[0],
    };
    let (slices, classes) = (List::all(SLICES.at(version)), List::all(CLASSES.at(version)));
    let (slices, classes, (claims, complete)) = futures::join!(
        api.list(&slices, RawSlice::gpus),
        api.objects::<RawClass>(&classes),
        claims(api, version, namespaces),
    );
    let not_served = |e: Option<&ReadError>| matches!(e, Some(ReadError::NotServed(_)));
    if served.is_none() && not_served(slices.as_ref().err()) && not_served(claims.as_ref().err()) {
        return None;
    }
    let pools = slices.and_then(Pools::of);
    let pools = match pools {
        Ok(pools) => Some(pools),
        Err(error) => {
            gaps.add(
                &error,
                "resourceslices",
                "GPUs that DRA drivers publish are not seen: nodes without a device plugin are of unknown state",
            );
            gaps.failed(&error);
            None
        }
    };
    let classes = match classes {
        Ok(listed) => Some(listed.items.into_iter().map(RawClass::into_class).collect()),
        Err(error) => {
            gaps.add(
                &error,
                "deviceclasses",
                "what waiting claims ask for is unknown: they count as no demand",
            );
            gaps.failed(&error);
            None
        }
    };
    let unknown = "who holds which DRA device is unknown: none of them is called free or idle";
    let mut claims_complete = complete;
    let claims = match claims {
        Ok(listed) => {
            if !listed.odd.is_empty() {
                claims_complete = false;
                let names: Vec<String> = listed.odd.iter().map(|o| format!("{} ({})", o.name, o.why)).collect();
                gaps.push(Gap {
                    source: String::new(),
                    what: format!("resourceclaims {}", some(&names)),
                    reason: "they are not what the API serves".into(),
                    effect: unknown.into(),
                    remedy: "look at the objects, and at what stands between you and the API server".into(),
                });
            }
            Some(listed.items.into_iter().map(RawClaim::into_claim).collect())
        }
        Err(error) => {
            gaps.add(&error, "resourceclaims", unknown);
            gaps.failed(&error);
            None
        }
    };
    Some(Dra {
        version: version.into(),
        pools,
        classes,
        claims_complete: claims_complete && claims.is_some(),
        claims,
    })
}

/// All claims; where that is refused, those of the namespaces that were asked for.
async fn claims(api: &Api, version: &str, namespaces: &[Name]) -> (Result<Listed<RawClaim>, ReadError>, bool) {
    let resource = CLAIMS.at(version);
    match api.objects::<RawClaim>(&List::all(resource)).await {
        Ok(listed) => (Ok(listed), true),
        Err(error) if error.is_forbidden() && !namespaces.is_empty() => {
            (api.objects_in(resource, namespaces).await, false)
        }
        Err(error) => (Err(error), false),
    }
}

// --- slices ----------------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
struct RawSlice {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawSliceSpec,
}

impl ApiObject for RawSlice {
    const NAMESPACED: bool = false;

    fn meta(&self) -> &RawMeta {
        &self.metadata
    }

    fn lacks(&self) -> Option<&'static str> {
        let nameless = self.spec.devices.iter().any(|d| d.name.is_empty());
        if self.spec.driver.is_empty() {
            Some("driver")
        } else if self.spec.pool.name.is_empty() {
            Some("pool")
        } else {
            nameless.then_some("names of its devices")
        }
    }
}

impl RawSlice {
    /// What other drivers publish (network cards) is nobody's concern here.
    fn gpus(self) -> Option<Self> {
        is_gpu_driver(&self.spec.driver).then_some(self)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSliceSpec {
    driver: String,
    pool: RawPool,
    node_name: Option<String>,
    #[serde(deserialize_with = "lenient")]
    devices: Vec<RawDevice>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawPool {
    name: String,
    generation: i64,
    resource_slice_count: i64,
}

/// v1 and v1beta2 write a device's fields directly, v1beta1 under `basic`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawDevice {
    name: String,
    basic: Option<Box<RawDevice>>,
    #[serde(deserialize_with = "lenient")]
    attributes: BTreeMap<String, RawAttribute>,
    #[serde(deserialize_with = "lenient")]
    capacity: BTreeMap<String, RawCapacity>,
    #[serde(deserialize_with = "lenient")]
    consumes_counters: Vec<RawConsumes>,
    node_name: Option<String>,
    #[serde(deserialize_with = "lenient")]
    taints: Vec<RawTaint>,
}

/// A union; only strings are read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAttribute {
    string: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCapacity {
    value: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawConsumes {
    counter_set: String,
}

impl RawDevice {
    fn into_device(self, driver: &str, node: Option<&String>) -> Device {
        let name = self.name;
        let basic = match self.basic {
            Some(basic) => *basic,
            None => RawDevice {
                name: String::new(),
                basic: None,
                ..self
            },
        };
        // A name without a domain is in the driver's own.
        let text = |keys: &[&str]| {
            keys.iter()
                .find_map(|k| {
                    basic
                        .attributes
                        .get(*k)
                        .or_else(|| basic.attributes.get(&format!("{driver}/{k}")))
                })
                .and_then(|a| a.string.clone())
                .filter(|t| !t.is_empty() && t != "Unknown")
        };
        let memory = basic
            .capacity
            .get("memory")
            .or_else(|| basic.capacity.get(&format!("{driver}/memory")))
            .and_then(|c| quantity::parse(c.value.as_deref()?))
            .filter(|b| *b > 0.0 && *b < 1e18)
            .map(|b| Bytes(b as u64));
        Device {
            name,
            node: basic
                .node_name
                .clone()
                .or_else(|| node.cloned())
                .filter(|n| !n.is_empty()),
            kind: text(&["type"]),
            uuid: text(&["uuid"]),
            parent_uuid: text(&["parentUUID"]),
            profile: text(&["profile", "partitionProfile"]),
            product: text(&["productName", "model", "accelerator"]),
            architecture: text(&["architecture", "family"]),
            pci_bus_id: text(&["resource.kubernetes.io/pciBusID", "pcieBusID", "pciAddr", "pciAddress"]),
            memory,
            counter_sets: basic.consumes_counters.into_iter().map(|c| c.counter_set).collect(),
            taints: basic
                .taints
                .into_iter()
                .map(RawTaint::into_taint)
                .filter(|t: &Taint| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"))
                .collect(),
        }
    }
}

/// Pools under construction: slices of an older generation are the past.
#[derive(Default)]
struct Pools {
    pools: BTreeMap<(String, String), (DevicePool, i64, i64)>,
}

impl Pools {
    /// Drivers write slices, and nobody else: one that is none says that the list is none either.
    fn of(listed: Listed<RawSlice>) -> Result<Vec<DevicePool>, ReadError> {
        if let Some(odd) = listed.odd.first() {
            return Err(ReadError::Body(format!(
                "slice {} is not what the API serves: {}",
                odd.name, odd.why
            )));
        }
        let mut pools = Self::default();
        for slice in listed.items {
            pools.add(slice);
        }
        Ok(pools.finish())
    }

    fn add(&mut self, slice: RawSlice) {
        let spec = slice.spec;
        let fresh = || DevicePool {
            driver: spec.driver.clone(),
            name: spec.pool.name.clone(),
            generation: spec.pool.generation,
            ..DevicePool::default()
        };
        let entry = self
            .pools
            .entry((spec.driver.clone(), spec.pool.name.clone()))
            .or_insert_with(|| (fresh(), 0, spec.pool.resource_slice_count));
        if spec.pool.generation > entry.0.generation {
            *entry = (fresh(), 0, spec.pool.resource_slice_count);
        } else if spec.pool.generation < entry.0.generation {
            return;
        }
        entry.1 += 1;
        let devices = spec.devices.into_iter();
        entry
            .0
            .devices
            .extend(devices.map(|d| d.into_device(&spec.driver, spec.node_name.as_ref())));
    }

    fn finish(self) -> Vec<DevicePool> {
        self.pools
            .into_values()
            .map(|(mut pool, seen, wanted)| {
                pool.complete = seen >= wanted;
                pool.devices.sort_by(|a, b| a.name.cmp(&b.name));
                pool
            })
            .collect()
    }
}

// --- classes ---------------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
struct RawClass {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawClassSpec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawClassSpec {
    #[serde(deserialize_with = "lenient")]
    selectors: Vec<RawSelector>,
    extended_resource_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSelector {
    cel: Option<RawCel>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCel {
    expression: String,
}

impl ApiObject for RawClass {
    const NAMESPACED: bool = false;

    fn meta(&self) -> &RawMeta {
        &self.metadata
    }
}

impl RawClass {
    fn into_class(self) -> DeviceClass {
        // Every published class of these drivers selects `device.driver == 'gpu.nvidia.com'` or is named after it.
        let quoted = |driver: &str| {
            self.spec.selectors.iter().filter_map(|s| s.cel.as_ref()).any(|c| {
                c.expression.contains(&format!("'{driver}'")) || c.expression.contains(&format!("\"{driver}\""))
            })
        };
        let driver = GPU_DRIVERS.iter().find(|d| quoted(d) || self.metadata.name == **d);
        DeviceClass {
            driver: driver.map(|d| (*d).to_string()),
            name: self.metadata.name,
            extended_resource: self.spec.extended_resource_name.filter(|n| !n.is_empty()),
        }
    }
}

// --- claims ----------------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
struct RawClaim {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawClaimSpec,
    #[serde(default)]
    status: RawClaimStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawClaimSpec {
    #[serde(deserialize_with = "lenient")]
    devices: RawClaimDevices,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawClaimDevices {
    #[serde(deserialize_with = "lenient")]
    requests: Vec<RawRequest>,
}

/// v1 and v1beta2 write a request under `exactly`, v1beta1 directly.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawRequest {
    name: String,
    exactly: Option<Box<RawRequest>>,
    #[serde(deserialize_with = "lenient")]
    first_available: Vec<RawRequest>,
    device_class_name: String,
    allocation_mode: Option<String>,
    count: Option<i64>,
    admin_access: Option<bool>,
}

impl RawRequest {
    fn into_request(self) -> DeviceRequest {
        let name = self.name.clone();
        let inner = match (self.exactly, self.first_available.into_iter().next()) {
            (Some(exactly), _) => *exactly,
            (None, Some(first)) => first,
            (None, None) => RawRequest {
                exactly: None,
                first_available: Vec::new(),
                ..self
            },
        };
        DeviceRequest {
            name,
            class: inner.device_class_name,
            count: (inner.allocation_mode.as_deref() != Some("All"))
                .then(|| inner.count.and_then(|c| u64::try_from(c).ok()).unwrap_or(1)),
            admin: inner.admin_access == Some(true),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawClaimStatus {
    allocation: Option<RawAllocation>,
    #[serde(deserialize_with = "lenient")]
    reserved_for: Vec<RawConsumer>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAllocation {
    #[serde(deserialize_with = "lenient")]
    devices: RawResults,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawResults {
    #[serde(deserialize_with = "lenient")]
    results: Vec<RawResult>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawResult {
    driver: String,
    pool: String,
    device: String,
    admin_access: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawConsumer {
    api_group: String,
    resource: String,
    name: String,
    uid: String,
}

impl ApiObject for RawClaim {
    fn meta(&self) -> &RawMeta {
        &self.metadata
    }
}

impl RawClaim {
    fn into_claim(self) -> ResourceClaim {
        let (is_pod, others): (Vec<_>, Vec<_>) = self
            .status
            .reserved_for
            .into_iter()
            .partition(|c| c.api_group.is_empty() && c.resource == "pods");
        let allocated = self.status.allocation.is_some();
        let results = self.status.allocation.unwrap_or_default().devices.results;
        ResourceClaim {
            created_at: self.metadata.created_at(),
            deleted_at: self.metadata.deleted_at(),
            namespace: self.metadata.namespace,
            name: self.metadata.name,
            requests: self
                .spec
                .devices
                .requests
                .into_iter()
                .map(RawRequest::into_request)
                .collect(),
            allocated,
            devices: results
                .into_iter()
                .filter(|r| is_gpu_driver(&r.driver))
                .map(|r| AllocatedDevice {
                    driver: r.driver,
                    pool: r.pool,
                    device: r.device,
                    admin: r.admin_access == Some(true),
                })
                .collect(),
            pods: is_pod
                .into_iter()
                .map(|c| PodRef {
                    name: c.name,
                    uid: c.uid,
                })
                .collect(),
            reserved_otherwise: !others.is_empty(),
        }
    }
}
