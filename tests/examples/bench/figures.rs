//! Figures, as people and programs read them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

/// All that a run measured.
#[derive(Serialize, Deserialize)]
pub(crate) struct Figures {
    machine: Machine,
    figures: Vec<Figure>,
    pub(crate) loads: Vec<Load>,
}

#[derive(Serialize, Deserialize)]
struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    /// That of the data directories.
    #[serde(default)]
    file_system: String,
}

/// One thing measured, some times.
#[derive(Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    /// The size of the log, where it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) leaves: Option<u64>,
    unit: String,
    runs: Vec<f64>,
}

/// What an open loop met at one rate.
#[derive(Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) name: String,
    /// Of the largest rate.
    pub(crate) percent: u64,
    /// Events a second.
    pub(crate) offered: f64,
    pub(crate) taken: f64,
    /// Percent of the events offered: no worker was free for them before the end.
    #[serde(default)]
    pub(crate) never_started: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Figure {
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        sorted[sorted.len() / 2]
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl Figures {
    /// Without any figures yet. `directory` is where data directories will be made.
    pub(crate) fn of_this_machine(directory: &Path) -> Result<Self> {
        let file_system = file_system(directory)?;
        ensure!(
            file_system != "tmpfs" && file_system != "ramfs",
            "{} is on a {file_system}, where nothing is written to a disk: set TMPDIR to a directory on the disk to \
             measure",
            directory.display()
        );
        let line = |path: &str, name: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or("unknown")
                .trim_start_matches([' ', '\t', ':'])
                .to_owned()
        };
        Ok(Self {
            machine: Machine {
                processor: line("/proc/cpuinfo", "model name"),
                cores: std::thread::available_parallelism().map_or(1, usize::from),
                kernel: line("/proc/sys/kernel/osrelease", ""),
                file_system,
            },
            figures: Vec::new(),
            loads: Vec::new(),
        })
    }

    pub(crate) fn add(&mut self, name: &str, unit: &str, value: f64) {
        self.add_run(name, None, unit, value);
    }

    pub(crate) fn add_at_size(&mut self, name: &str, leaves: u64, unit: &str, value: f64) {
        self.add_run(name, Some(leaves), unit, value);
    }

    fn add_run(&mut self, name: &str, leaves: Option<u64>, unit: &str, value: f64) {
        let size = leaves.map_or_else(String::new, |leaves| format!(", {leaves} leaves"));
        eprintln!("{name}{size}: {} {unit}", shown(value));
        let known = self
            .figures
            .iter_mut()
            .find(|figure| figure.name == name && figure.leaves == leaves);
        match known {
            Some(figure) => figure.runs.push(value),
            None => self.figures.push(Figure {
                name: name.to_owned(),
                leaves,
                unit: unit.to_owned(),
                runs: vec![value],
            }),
        }
    }

    /// Figures measured at several sizes of the log, by name.
    pub(crate) fn by_size(&self) -> impl Iterator<Item = (&Figure, u64)> {
        self.figures
            .iter()
            .filter_map(|figure| figure.leaves.map(|leaves| (figure, leaves)))
    }

    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["what", "median", "range", "unit"]);
        for figure in &self.figures {
            let sorted = figure.sorted();
            let range = match sorted.as_slice() {
                [lowest, .., highest] => format!("{} to {}", shown(*lowest), shown(*highest)),
                _ => String::new(),
            };
            let size = figure
                .leaves
                .map_or_else(String::new, |leaves| format!(", {leaves} leaves"));
            table.add_row([
                format!("{}{size}", figure.name),
                shown(figure.median()),
                range,
                figure.unit.clone(),
            ]);
        }
        let mut loads = Table::new();
        loads.load_style(presets::ASCII_MARKDOWN);
        loads.set_header([
            "open loop",
            "of the largest",
            "offered/s",
            "taken/s",
            "never started",
            "p50 ms",
            "p99 ms",
        ]);
        for load in &self.loads {
            loads.add_row([
                load.name.clone(),
                format!("{} %", load.percent),
                shown(load.offered),
                shown(load.taken),
                format!("{:.1} %", load.never_started),
                shown(load.p50_ms),
                shown(load.p99_ms),
            ]);
        }
        for (table, numbers) in [(&mut table, 1..3), (&mut loads, 1..7)] {
            for column in numbers {
                if let Some(column) = table.column_mut(column) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        let Machine {
            processor,
            cores,
            kernel,
            file_system,
        } = &self.machine;
        let mut text = format!("{processor}, {cores} cores, Linux {kernel}, {file_system}\n\n{table}");
        if !self.loads.is_empty() {
            text.push_str(&format!("\n\n{loads}"));
        }
        text
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no output of a bench", path.display()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("writing figures as JSON")?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }
}

/// The type of the file system that a directory is on, such as `ext4`.
fn file_system(directory: &Path) -> Result<String> {
    let directory =
        fs::canonicalize(directory).with_context(|| format!("finding {}", directory.display()))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading what is mounted")?;
    // proc_pid_mountinfo(5): `36 35 98:0 / /srv rw,noatime master:1 - ext4 /dev/root rw`. Of two at one place the later
    // one is seen.
    let mounted = mounts.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let place = mount.split(' ').nth(4)?;
        let kind = source.split(' ').next()?;
        directory.starts_with(place).then_some((place.len(), kind))
    });
    let (_, kind) = mounted
        .max_by_key(|(length, _)| *length)
        .with_context(|| format!("nothing is mounted at {}", directory.display()))?;
    Ok(kind.to_owned())
}

/// Three digits are as many as such figures are good for.
pub(crate) fn shown(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text
        .split_once('.')
        .map_or((text.as_str(), ""), |(whole, fraction)| (whole, fraction));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() {
        grouped
    } else {
        format!("{grouped}.{fraction}")
    }
}
