//! The figures of devices: one row for each name that an exporter gives one, with its unit. Live pages, the questions to a
//! store and its answers all read by this table.

use crate::exporters::ExporterKind;
use crate::snapshot::gpu::Generation;
use gpuwaste_facts::limits::{Quantity, Says, divisor};

/// A figure of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceFigure {
    /// Share of time with at least one kernel running. Video engines count apart.
    GpuUtil,
    GrEngine,
    SmActive,
    Tensor,
    Dram,
    Power,
    Energy,
    MemoryUsed,
    /// Only to add up to the whole where that is not told.
    MemoryFree,
    MemoryReserved,
    MemoryTotal,
    /// Share of time that the video encoders and decoders work: no kernel runs for it.
    Encoder,
    Decoder,
}

impl DeviceFigure {
    pub const ALL: [Self; 13] = [
        Self::GpuUtil,
        Self::GrEngine,
        Self::SmActive,
        Self::Tensor,
        Self::Dram,
        Self::Power,
        Self::Energy,
        Self::MemoryUsed,
        Self::MemoryFree,
        Self::MemoryReserved,
        Self::MemoryTotal,
        Self::Encoder,
        Self::Decoder,
    ];

    pub const fn quantity(self) -> Quantity {
        match self {
            Self::GpuUtil
            | Self::GrEngine
            | Self::SmActive
            | Self::Tensor
            | Self::Dram
            | Self::Encoder
            | Self::Decoder => Quantity::Share,
            Self::Power => Quantity::Power,
            Self::Energy => Quantity::Energy,
            Self::MemoryUsed | Self::MemoryFree | Self::MemoryReserved | Self::MemoryTotal => Quantity::DeviceMemory,
        }
    }

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GpuUtil => "GPU utilization",
            Self::GrEngine => "engine activity",
            Self::SmActive => "SM activity",
            Self::Tensor => "tensor activity",
            Self::Dram => "DRAM activity",
            Self::Power => "power",
            Self::Energy => "energy",
            Self::MemoryUsed => "memory used",
            Self::MemoryFree => "memory free",
            Self::MemoryReserved => "memory reserved",
            Self::MemoryTotal => "memory",
            Self::Encoder => "encoder utilization",
            Self::Decoder => "decoder utilization",
        }
    }
}

/// How an exporter writes a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// The snapshot's own: ratios of 1, watts, bytes, joules.
    Base,
    Percent,
    /// Whole percent, or a ratio: its values tell.
    PercentOrRatio,
    /// Thousandths: mW, mJ.
    Milli,
    Mebibytes,
    Megabytes,
}

/// What makes a value one of the snapshot's unit: times one, by the other, so that 70 percent are 0.7 and nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    times: f64,
    by: f64,
}

impl Scale {
    pub fn of(self, value: f64) -> f64 {
        value * self.times / self.by
    }
}

impl Unit {
    /// By the values under one name. `None`: they do not tell which unit they have.
    pub fn scale(self, values: impl IntoIterator<Item = f64>) -> Option<Scale> {
        let (times, by) = match self {
            Self::Base => (1.0, 1.0),
            Self::Percent => (1.0, 100.0),
            Self::PercentOrRatio => (1.0, divisor(Says::Either, values)?),
            Self::Milli => (1.0, 1000.0),
            Self::Mebibytes => (1_048_576.0, 1.0),
            Self::Megabytes => (1e6, 1.0),
        };
        Some(Scale { times, by })
    }
}

/// Of which rows a name is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Any,
    /// Not of parts of a card: what they show is the card's, or 0 whatever they do.
    WholeCards,
}

/// One exporter's name for a figure.
#[derive(Debug)]
pub struct DeviceSeries {
    pub name: &'static str,
    pub figure: DeviceFigure,
    pub unit: Unit,
    pub of: Of,
    pub exporter: ExporterKind,
    pub generation: Generation,
}

const fn row(
    exporter: ExporterKind,
    generation: Generation,
    name: &'static str,
    figure: DeviceFigure,
    unit: Unit,
    of: Of,
) -> DeviceSeries {
    DeviceSeries {
        name,
        figure,
        unit,
        of,
        exporter,
        generation,
    }
}

/// dcgm-exporter with its 1.x compatibility counters.
const fn old(name: &'static str, figure: DeviceFigure, unit: Unit, of: Of) -> DeviceSeries {
    row(ExporterKind::Dcgm, Generation::DcgmCompatible, name, figure, unit, of)
}

/// dcgm-exporter to 4.8: percent, MiB, millijoules.
const fn dcgm(name: &'static str, figure: DeviceFigure, unit: Unit, of: Of) -> DeviceSeries {
    row(ExporterKind::Dcgm, Generation::Dcgm, name, figure, unit, of)
}

/// dcgm-exporter since 4.9, which changed names and units.
const fn new(name: &'static str, figure: DeviceFigure, unit: Unit, of: Of) -> DeviceSeries {
    row(ExporterKind::Dcgm, Generation::DcgmBaseUnits, name, figure, unit, of)
}

const fn amd(name: &'static str, figure: DeviceFigure, unit: Unit, of: Of) -> DeviceSeries {
    row(ExporterKind::Amd, Generation::Amd, name, figure, unit, of)
}

const fn gaudi(name: &'static str, figure: DeviceFigure, unit: Unit) -> DeviceSeries {
    row(ExporterKind::Gaudi, Generation::Gaudi, name, figure, unit, Of::Any)
}

const fn smi(name: &'static str, figure: DeviceFigure) -> DeviceSeries {
    row(
        ExporterKind::NvidiaSmi,
        Generation::NvidiaSmi,
        name,
        figure,
        Base,
        Of::Any,
    )
}

const fn all_smi(name: &'static str, figure: DeviceFigure, unit: Unit) -> DeviceSeries {
    row(ExporterKind::AllSmi, Generation::AllSmi, name, figure, unit, Of::Any)
}

use DeviceFigure as F;
use Unit::{Base, Mebibytes, Megabytes, Milli, Percent, PercentOrRatio};

/// Every name, those of one figure and exporter in the order of preference.
pub static DEVICES: &[DeviceSeries] = &[
    // GPU_UTIL is not told for instances: where a row shows it, its 0 is no idleness.
    old("dcgm_gpu_utilization", F::GpuUtil, PercentOrRatio, Of::WholeCards),
    dcgm("DCGM_FI_DEV_GPU_UTIL", F::GpuUtil, PercentOrRatio, Of::WholeCards),
    new("DCGM_FI_DEV_GPU_UTIL_RATIO", F::GpuUtil, PercentOrRatio, Of::WholeCards),
    old("dcgm_enc_utilization", F::Encoder, PercentOrRatio, Of::WholeCards),
    dcgm("DCGM_FI_DEV_ENC_UTIL", F::Encoder, PercentOrRatio, Of::WholeCards),
    new("DCGM_FI_DEV_ENC_UTIL_RATIO", F::Encoder, PercentOrRatio, Of::WholeCards),
    old("dcgm_dec_utilization", F::Decoder, PercentOrRatio, Of::WholeCards),
    dcgm("DCGM_FI_DEV_DEC_UTIL", F::Decoder, PercentOrRatio, Of::WholeCards),
    new("DCGM_FI_DEV_DEC_UTIL_RATIO", F::Decoder, PercentOrRatio, Of::WholeCards),
    old("dcgm_fi_prof_gr_engine_active", F::GrEngine, Base, Of::Any),
    dcgm("DCGM_FI_PROF_GR_ENGINE_ACTIVE", F::GrEngine, Base, Of::Any),
    new("DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO", F::GrEngine, Base, Of::Any),
    old("dcgm_fi_prof_sm_active", F::SmActive, Base, Of::Any),
    dcgm("DCGM_FI_PROF_SM_ACTIVE", F::SmActive, Base, Of::Any),
    new("DCGM_FI_PROF_SM_UTIL_RATIO", F::SmActive, Base, Of::Any),
    old("dcgm_fi_prof_pipe_tensor_active", F::Tensor, Base, Of::Any),
    dcgm("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", F::Tensor, Base, Of::Any),
    new("DCGM_FI_PROF_TENSOR_UTIL_RATIO", F::Tensor, Base, Of::Any),
    old("dcgm_fi_prof_dram_active", F::Dram, Base, Of::Any),
    dcgm("DCGM_FI_PROF_DRAM_ACTIVE", F::Dram, Base, Of::Any),
    new("DCGM_FI_PROF_DRAM_UTIL_RATIO", F::Dram, Base, Of::Any),
    old("dcgm_power_usage", F::Power, Base, Of::Any),
    dcgm("DCGM_FI_DEV_POWER_USAGE", F::Power, Base, Of::Any),
    new("DCGM_FI_DEV_BOARD_POWER_WATTS", F::Power, Base, Of::Any),
    old("dcgm_total_energy_consumption", F::Energy, Milli, Of::Any),
    dcgm("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", F::Energy, Milli, Of::Any),
    new("DCGM_FI_DEV_GPU_ENERGY_JOULES_TOTAL", F::Energy, Base, Of::Any),
    old("dcgm_fb_used", F::MemoryUsed, Mebibytes, Of::Any),
    dcgm("DCGM_FI_DEV_FB_USED", F::MemoryUsed, Mebibytes, Of::Any),
    new("DCGM_FI_DEV_FB_USED_BYTES", F::MemoryUsed, Base, Of::Any),
    old("dcgm_fb_free", F::MemoryFree, Mebibytes, Of::Any),
    dcgm("DCGM_FI_DEV_FB_FREE", F::MemoryFree, Mebibytes, Of::Any),
    new("DCGM_FI_DEV_FB_FREE_BYTES", F::MemoryFree, Base, Of::Any),
    old("dcgm_fb_reserved", F::MemoryReserved, Mebibytes, Of::Any),
    dcgm("DCGM_FI_DEV_FB_RESERVED", F::MemoryReserved, Mebibytes, Of::Any),
    new("DCGM_FI_DEV_FB_RESERVED_BYTES", F::MemoryReserved, Base, Of::Any),
    old("dcgm_fb_total", F::MemoryTotal, Mebibytes, Of::Any),
    dcgm("DCGM_FI_DEV_FB_TOTAL", F::MemoryTotal, Mebibytes, Of::Any),
    new("DCGM_FI_DEV_FB_TOTAL_BYTES", F::MemoryTotal, Base, Of::Any),
    new("DCGM_FI_DEV_FB_CAPACITY_BYTES", F::MemoryTotal, Base, Of::Any),
    // In partitioned mode only partition 0 shows activity: the others are not idle, they are unknown. The second of each
    // pair has the prefix of the operator's default configuration; gpu_usage and gpu_total_memory are the first releases'.
    amd("gpu_gfx_activity", F::GpuUtil, Percent, Of::WholeCards),
    amd("amd_gpu_gfx_activity", F::GpuUtil, Percent, Of::WholeCards),
    amd("gpu_usage", F::GpuUtil, Percent, Of::WholeCards),
    amd("amd_gpu_usage", F::GpuUtil, Percent, Of::WholeCards),
    amd("gpu_umc_activity", F::Dram, Percent, Of::WholeCards),
    amd("amd_gpu_umc_activity", F::Dram, Percent, Of::WholeCards),
    amd("gpu_package_power", F::Power, Base, Of::WholeCards),
    amd("amd_gpu_package_power", F::Power, Base, Of::WholeCards),
    amd("gpu_average_package_power", F::Power, Base, Of::WholeCards),
    amd("amd_gpu_average_package_power", F::Power, Base, Of::WholeCards),
    amd("gpu_used_vram", F::MemoryUsed, Megabytes, Of::Any),
    amd("amd_gpu_used_vram", F::MemoryUsed, Megabytes, Of::Any),
    amd("gpu_total_vram", F::MemoryTotal, Megabytes, Of::Any),
    amd("amd_gpu_total_vram", F::MemoryTotal, Megabytes, Of::Any),
    amd("gpu_total_memory", F::MemoryTotal, Megabytes, Of::Any),
    amd("amd_gpu_total_memory", F::MemoryTotal, Megabytes, Of::Any),
    gaudi("habanalabs_utilization", F::GpuUtil, Percent),
    gaudi("habanalabs_power_mW", F::Power, Milli),
    gaudi("habanalabs_memory_used_bytes", F::MemoryUsed, Base),
    gaudi("habanalabs_memory_total_bytes", F::MemoryTotal, Base),
    smi("nvidia_smi_utilization_gpu_ratio", F::GpuUtil),
    smi("nvidia_smi_utilization_encoder_ratio", F::Encoder),
    smi("nvidia_smi_utilization_decoder_ratio", F::Decoder),
    // power.draw first; newer drivers tell the mean of a second and the instant apart, and some cards only one of them.
    smi("nvidia_smi_power_draw_watts", F::Power),
    smi("nvidia_smi_power_draw_average_watts", F::Power),
    smi("nvidia_smi_power_draw_instant_watts", F::Power),
    smi("nvidia_smi_memory_used_bytes", F::MemoryUsed),
    smi("nvidia_smi_memory_total_bytes", F::MemoryTotal),
    // Of its NVML backend.
    smi("nvidia_smi_energy_joules_total", F::Energy),
    // Of MIG instances, by the same backend from Hopper on: means between its last two looks.
    smi("nvidia_smi_mig_memory_used_bytes", F::MemoryUsed),
    smi("nvidia_smi_mig_memory_total_bytes", F::MemoryTotal),
    smi("nvidia_smi_mig_graphics_activity_ratio", F::GrEngine),
    smi("nvidia_smi_mig_sm_activity_ratio", F::SmActive),
    smi("nvidia_smi_mig_tensor_activity_ratio", F::Tensor),
    all_smi("all_smi_gpu_utilization", F::GpuUtil, Percent),
    all_smi("all_smi_gpu_power_consumption_watts", F::Power, Base),
    all_smi("all_smi_gpu_memory_used_bytes", F::MemoryUsed, Base),
    all_smi("all_smi_gpu_memory_total_bytes", F::MemoryTotal, Base),
    all_smi("all_smi_mig_instance_memory_used_bytes", F::MemoryUsed, Base),
    all_smi("all_smi_mig_instance_memory_total_bytes", F::MemoryTotal, Base),
];

/// An exporter's names of a figure, preferred ones first.
pub fn named(exporter: ExporterKind, figure: DeviceFigure) -> impl Iterator<Item = &'static DeviceSeries> {
    DEVICES
        .iter()
        .filter(move |s| s.exporter == exporter && s.figure == figure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporters::EXPORTERS;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_one_figure_of_one_exporter() {
        let names: BTreeSet<&str> = DEVICES.iter().map(|s| s.name).collect();
        assert_eq!(names.len(), DEVICES.len());
        for exporter in EXPORTERS {
            assert!(named(exporter.kind, F::GpuUtil).next().is_some(), "{}", exporter.title);
            assert!(named(exporter.kind, F::Power).next().is_some(), "{}", exporter.title);
        }
        for (place, figure) in F::ALL.into_iter().enumerate() {
            assert_eq!(figure as usize, place);
            assert!(DEVICES.iter().any(|s| s.figure == figure), "{figure:?}");
        }
    }
}
