//! A stand-in for `libnvidia-ml.so.1`, for tests on machines without a GPU.
//!
//! It answers what the scenario file named by `NVML_STANDIN` says, with the struct layouts of `nvml.h`. Symbols that are
//! missing here are missing as in an old driver's library.

#![allow(non_snake_case, clippy::missing_safety_doc)]

use serde::Deserialize;
use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};
use std::sync::OnceLock;

const SUCCESS: c_int = 0;
const UNINITIALIZED: c_int = 1;
const INVALID_ARGUMENT: c_int = 2;
const NOT_SUPPORTED: c_int = 3;
const NOT_FOUND: c_int = 6;
const INSUFFICIENT_SIZE: c_int = 7;

/// What the library answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Scenario {
    /// Code of nvmlInit: 9 is "driver not loaded", 18 "driver/library version mismatch".
    init: c_int,
    driver: String,
    devices: Vec<Gpu>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Gpu {
    name: String,
    uuid: String,
    /// Code of every call on it: 15 is "GPU is lost".
    error: c_int,
    /// Code of the call for its processes: 4 is "no permission".
    processes_error: c_int,
    gpu_percent: Option<c_uint>,
    memory_percent: c_uint,
    memory_total: c_ulonglong,
    memory_used: c_ulonglong,
    power_milliwatts: Option<c_uint>,
    energy_millijoules: Option<c_ulonglong>,
    pids: Vec<c_uint>,
    mps_pids: Vec<c_uint>,
    /// `None`: the card has no MIG. An empty list: MIG is on, no instance is made.
    mig: Option<Vec<Instance>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Instance {
    slot: c_uint,
    name: String,
    uuid: String,
    memory_total: c_ulonglong,
    memory_used: c_ulonglong,
    pids: Vec<c_uint>,
}

/// Places for MIG devices on one card, used or not: the "maximum", as the real call says.
const MIG_PLACES: c_uint = 7;

fn scenario() -> &'static Scenario {
    static SCENARIO: OnceLock<Scenario> = OnceLock::new();
    SCENARIO.get_or_init(|| {
        let file = std::env::var("NVML_STANDIN").expect("NVML_STANDIN names the scenario file");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"))
    })
}

/// A handle is a number in a pointer's place: the GPU's index + 1, and 256 × (the MIG device's place + 1).
type Handle = *mut c_void;

enum Target {
    Whole(&'static Gpu),
    Mig(&'static Instance),
}

fn target(handle: Handle) -> Result<Target, c_int> {
    let number = handle as usize;
    let gpu = scenario()
        .devices
        .get((number & 0xff).wrapping_sub(1))
        .ok_or(INVALID_ARGUMENT)?;
    if gpu.error != 0 {
        return Err(gpu.error);
    }
    match number >> 8 {
        0 => Ok(Target::Whole(gpu)),
        place => {
            let instances = gpu.mig.as_deref().unwrap_or_default();
            let found = instances.iter().find(|i| i.slot as usize + 1 == place);
            found.map(Target::Mig).ok_or(INVALID_ARGUMENT)
        }
    }
}

fn whole(handle: Handle) -> Result<&'static Gpu, c_int> {
    match target(handle)? {
        Target::Whole(gpu) => Ok(gpu),
        Target::Mig(_) => Err(NOT_SUPPORTED),
    }
}

fn code(result: Result<(), c_int>) -> c_int {
    result.err().unwrap_or(SUCCESS)
}

unsafe fn text(value: &str, to: *mut c_char, length: c_uint) -> Result<(), c_int> {
    if value.len() + 1 > length as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: the caller says that `length` bytes are there.
    unsafe {
        std::ptr::copy_nonoverlapping(value.as_ptr().cast(), to, value.len());
        *to.add(value.len()) = 0;
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_int {
    scenario().init
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> c_int {
    scenario().init
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> c_int {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(result: c_int) -> *const c_char {
    match result {
        SUCCESS => c"Success",
        UNINITIALIZED => c"Uninitialized",
        INVALID_ARGUMENT => c"Invalid Argument",
        NOT_SUPPORTED => c"Not Supported",
        4 => c"Insufficient Permissions",
        NOT_FOUND => c"Not Found",
        9 => c"Driver Not Loaded",
        15 => c"GPU is lost",
        18 => c"Driver/library version mismatch",
        _ => c"Unknown Error",
    }
    .as_ptr()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(to: *mut c_char, length: c_uint) -> c_int {
    // SAFETY: as of `text`.
    code(unsafe { text(&scenario().driver, to, length) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> c_int {
    // SAFETY: the caller gives a place for the count.
    unsafe { *count = scenario().devices.len() as c_uint };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Handle) -> c_int {
    if index as usize >= scenario().devices.len() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: the caller gives a place for the handle.
    unsafe { *device = (index as usize + 1) as Handle };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(device: Handle, to: *mut c_char, length: c_uint) -> c_int {
    code(target(device).and_then(|t| {
        let name = match &t {
            Target::Whole(gpu) => &gpu.name,
            Target::Mig(instance) => &instance.name,
        };
        // SAFETY: as of `text`.
        unsafe { text(name, to, length) }
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(device: Handle, to: *mut c_char, length: c_uint) -> c_int {
    code(target(device).and_then(|t| {
        let uuid = match &t {
            Target::Whole(gpu) => &gpu.uuid,
            Target::Mig(instance) => &instance.uuid,
        };
        // SAFETY: as of `text`.
        unsafe { text(uuid, to, length) }
    }))
}

/// `nvmlUtilization_t`.
#[repr(C)]
pub struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(device: Handle, to: *mut Utilization) -> c_int {
    code(whole(device).and_then(|gpu| {
        // Not supported on a card that is cut into MIG devices.
        let percent = gpu.gpu_percent.filter(|_| gpu.mig.is_none()).ok_or(NOT_SUPPORTED)?;
        // SAFETY: the caller gives a place for the struct.
        unsafe {
            *to = Utilization {
                gpu: percent,
                memory: gpu.memory_percent,
            };
        }
        Ok(())
    }))
}

/// `nvmlMemory_t`.
#[repr(C)]
pub struct Memory {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// `nvmlMemory_v2_t`.
#[repr(C)]
pub struct Memory2 {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

fn memory(device: Handle) -> Result<(c_ulonglong, c_ulonglong), c_int> {
    Ok(match target(device)? {
        Target::Whole(gpu) => (gpu.memory_total, gpu.memory_used),
        Target::Mig(instance) => (instance.memory_total, instance.memory_used),
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo(device: Handle, to: *mut Memory) -> c_int {
    code(memory(device).map(|(total, used)| {
        // SAFETY: the caller gives a place for the struct.
        unsafe {
            *to = Memory {
                total,
                free: total - used,
                used,
            };
        }
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Handle, to: *mut Memory2) -> c_int {
    // The caller says which layout it has: size | version << 24.
    let expected = size_of::<Memory2>() as c_uint | 2 << 24;
    code(memory(device).and_then(|(total, used)| {
        // SAFETY: the caller gives a place for the struct, with its version set.
        unsafe {
            if (*to).version != expected {
                return Err(INVALID_ARGUMENT);
            }
            *to = Memory2 {
                version: expected,
                total,
                reserved: 0,
                free: total - used,
                used,
            };
        }
        Ok(())
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(device: Handle, to: *mut c_uint) -> c_int {
    code(whole(device).and_then(|gpu| {
        // SAFETY: the caller gives a place for the number.
        unsafe { *to = gpu.power_milliwatts.ok_or(NOT_SUPPORTED)? };
        Ok(())
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEnergyConsumption(device: Handle, to: *mut c_ulonglong) -> c_int {
    code(whole(device).and_then(|gpu| {
        // SAFETY: the caller gives a place for the number.
        unsafe { *to = gpu.energy_millijoules.ok_or(NOT_SUPPORTED)? };
        Ok(())
    }))
}

/// `nvmlProcessInfo_t`, also of the `_v3` calls.
#[repr(C)]
pub struct ProcessInfo {
    pid: c_uint,
    used: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

unsafe fn processes(pids: &[c_uint], count: *mut c_uint, to: *mut ProcessInfo) -> c_int {
    // SAFETY: the caller says how many places there are; without any, it asks how many are needed.
    unsafe {
        let room = *count as usize;
        *count = pids.len() as c_uint;
        if pids.is_empty() {
            return SUCCESS;
        }
        if to.is_null() || room < pids.len() {
            return INSUFFICIENT_SIZE;
        }
        for (at, pid) in pids.iter().enumerate() {
            *to.add(at) = ProcessInfo {
                pid: *pid,
                used: 1 << 30,
                gpu_instance: c_uint::MAX,
                compute_instance: c_uint::MAX,
            };
        }
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Handle,
    count: *mut c_uint,
    to: *mut ProcessInfo,
) -> c_int {
    match target(device) {
        Err(error) => error,
        Ok(Target::Whole(gpu)) if gpu.processes_error != 0 => gpu.processes_error,
        // SAFETY: as of `processes`.
        Ok(Target::Whole(gpu)) => unsafe { processes(&gpu.pids, count, to) },
        // SAFETY: as of `processes`.
        Ok(Target::Mig(instance)) => unsafe { processes(&instance.pids, count, to) },
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
    device: Handle,
    count: *mut c_uint,
    to: *mut ProcessInfo,
) -> c_int {
    match whole(device) {
        Err(error) => error,
        // SAFETY: as of `processes`.
        Ok(gpu) => unsafe { processes(&gpu.mps_pids, count, to) },
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(device: Handle, current: *mut c_uint, pending: *mut c_uint) -> c_int {
    code(whole(device).and_then(|gpu| {
        let on = c_uint::from(gpu.mig.is_some());
        // Cards without MIG refuse the question; here those that say nothing of it.
        if gpu.mig.is_none() && !gpu.name.contains("100") && !gpu.name.contains("A30") {
            return Err(NOT_SUPPORTED);
        }
        // SAFETY: the caller gives places for both.
        unsafe {
            *current = on;
            *pending = on;
        }
        Ok(())
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: Handle, count: *mut c_uint) -> c_int {
    code(whole(device).map(|gpu| {
        // SAFETY: the caller gives a place for the count.
        unsafe { *count = if gpu.mig.is_some() { MIG_PLACES } else { 0 } };
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(device: Handle, place: c_uint, to: *mut Handle) -> c_int {
    code(whole(device).and_then(|gpu| {
        let instances = gpu.mig.as_deref().unwrap_or_default();
        instances.iter().find(|i| i.slot == place).ok_or(NOT_FOUND)?;
        // SAFETY: the caller gives a place for the handle.
        unsafe { *to = (device as usize | (place as usize + 1) << 8) as Handle };
        Ok(())
    }))
}
