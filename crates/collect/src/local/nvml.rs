//! GPUs of this host through NVML: devices, MIG instances, readings, and the processes on them.

use crate::snapshot::gpu::{DeviceHealth, Generation, GpuReading, GpuScrape, MigInstance};
use crate::units::{Bytes, Ratio, Watts};
use jiff::Timestamp;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

/// One thing that can be held.
pub(super) struct Seen {
    pub(super) scrape: GpuScrape,
    /// "nvidia.com/gpu", or "nvidia.com/mig-1g.10gb".
    pub(super) resource: String,
    /// Processes with a compute context on it.
    pub(super) pids: Vec<u32>,
    /// Index of the physical GPU, and of the MIG device on it.
    at: (u32, Option<u32>),
}

/// What the driver told.
#[derive(Default)]
pub(super) struct Inventory {
    pub(super) devices: Vec<Seen>,
    /// Physical GPUs, those that are lost included.
    pub(super) physical: u32,
    /// (which GPU, why) of devices that do not answer.
    pub(super) lost: Vec<(String, String)>,
    /// Figures that the driver refuses: (what, why).
    pub(super) refused: Vec<(String, String)>,
    pub(super) driver: Option<String>,
}

/// Why there is no NVML, with the way out.
pub(super) fn unavailable(error: &NvmlError) -> String {
    let way_out = match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            "libnvidia-ml.so.1 was not found: no NVIDIA driver is installed here, or this container was started without the NVIDIA runtime (--gpus all, NVIDIA_DRIVER_CAPABILITIES=utility)"
        }
        NvmlError::DriverNotLoaded => {
            "the library is there, the kernel module is not: 'modprobe nvidia', or the driver's installation is incomplete"
        }
        NvmlError::LibRmVersionMismatch => {
            "the driver was updated without a reboot: the library and the loaded kernel module have different versions"
        }
        NvmlError::NoPermission | NvmlError::OperatingSystem => {
            "this user may not open /dev/nvidia*: run as root, or give the container the devices"
        }
        _ => "see 'nvidia-smi' on this host",
    };
    format!("{error}; {way_out}")
}

/// All devices with one reading.
pub(super) fn inventory(nvml: &Nvml, node: &str, at: Timestamp) -> Result<Inventory, NvmlError> {
    let mut found = Inventory {
        physical: nvml.device_count()?,
        driver: nvml.sys_driver_version().ok(),
        ..Inventory::default()
    };
    for index in 0..found.physical {
        match nvml.device_by_index(index) {
            Ok(device) => device_rows(&device, index, node, at, &mut found),
            Err(error) => found.lost.push((format!("GPU {index}"), error.to_string())),
        }
    }
    Ok(found)
}

/// A further reading of everything that was found.
pub(super) fn read_again(nvml: &Nvml, inventory: &mut Inventory, at: Timestamp) {
    for seen in &mut inventory.devices {
        let (index, mig) = seen.at;
        let Ok(parent) = nvml.device_by_index(index) else {
            continue;
        };
        match mig {
            None => seen.scrape.readings.push(reading(&parent, at)),
            Some(slot) => {
                if let Ok(device) = parent.mig_device_by_index(slot) {
                    seen.scrape.readings.push(reading(&device, at));
                }
            }
        }
    }
}

fn device_rows(device: &Device<'_>, index: u32, node: &str, at: Timestamp, found: &mut Inventory) {
    // A GPU that fell off the bus still has a handle; its name is the first thing that fails.
    let model = match device.name() {
        Ok(name) => name,
        Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired | NvmlError::Unknown)) => {
            found.lost.push((format!("GPU {index}"), error.to_string()));
            return;
        }
        Err(_) => String::new(),
    };
    let uuid = device.uuid().ok();
    let row = |mig: Option<MigInstance>| GpuScrape {
        node: node.into(),
        uuid: uuid.clone(),
        index: Some(index),
        model: Some(model.clone()).filter(|m| !m.is_empty()),
        mig,
        holders: Vec::new(),
        maps_pods: true,
        generation: Some(Generation::Nvml),
        readings: Vec::new(),
        health: DeviceHealth::default(),
    };
    let mut instances = Vec::new();
    // NotSupported on cards without MIG, and an error on drivers that do not know the call: then it is a whole GPU.
    if device.mig_mode().is_ok_and(|m| m.current != 0) {
        for slot in 0..device.mig_device_count().unwrap_or(0) {
            // The numbers have gaps: NotFound is an empty place, not the end.
            let Ok(instance) = device.mig_device_by_index(slot) else {
                continue;
            };
            let Some(profile) = instance
                .name()
                .ok()
                .and_then(|n| Some(n.split_once(" MIG ")?.1.to_string()))
            else {
                continue;
            };
            instances.push(Seen {
                scrape: GpuScrape {
                    readings: vec![reading(&instance, at)],
                    ..row(Some(MigInstance {
                        profile: profile.clone(),
                        id: slot.to_string(),
                    }))
                },
                resource: format!("nvidia.com/mig-{profile}"),
                pids: pids(&instance, found),
                at: (index, Some(slot)),
            });
        }
    }
    if instances.is_empty() {
        let mut pids = pids(device, found);
        if let Ok(clients) = device.mps_running_compute_processes() {
            pids.extend(clients.iter().map(|p| p.pid));
        }
        pids.sort_unstable();
        pids.dedup();
        instances.push(Seen {
            scrape: GpuScrape {
                readings: vec![reading(device, at)],
                ..row(None)
            },
            resource: "nvidia.com/gpu".into(),
            pids,
            at: (index, None),
        });
    }
    found.devices.extend(instances);
}

fn pids(device: &Device<'_>, found: &mut Inventory) -> Vec<u32> {
    match device.running_compute_processes() {
        Ok(list) => list.iter().map(|p| p.pid).collect(),
        Err(error) => {
            let refused = ("the processes on the GPUs".to_string(), error.to_string());
            if !found.refused.contains(&refused) {
                found.refused.push(refused);
            }
            Vec::new()
        }
    }
}

/// One instant; what the card or driver does not support stays unknown (utilization on MIG, power on some boards).
fn reading(device: &Device<'_>, at: Timestamp) -> GpuReading {
    let utilization = device.utilization_rates().ok();
    let memory = device.memory_info().ok();
    GpuReading {
        at,
        gpu_util: utilization.map(|u| Ratio(f64::from(u.gpu) / 100.0)),
        gr_engine: None,
        sm_active: None,
        tensor: None,
        // Share of time in which memory was read or written: what DCGM calls DRAM active is a share of the peak rate.
        dram: None,
        power: device
            .power_usage()
            .ok()
            .map(|milliwatts| Watts(f64::from(milliwatts) / 1000.0)),
        memory_used: memory.as_ref().map(|m| Bytes(m.used)),
        memory_total: memory.as_ref().map(|m| Bytes(m.total)),
        energy_joules: device.total_energy_consumption().ok().map(|mj| mj as f64 / 1000.0),
    }
}
