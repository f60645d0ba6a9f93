// SPDX-License-Identifier: Apache-2.0
//! What the process uses, read when it is asked for. A value that `/proc` does not give is left out.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Opts};
use rustix::time::{ClockId, clock_gettime};

/// Memory, threads, file descriptors and processor time, under the names that Prometheus' own clients use.
#[derive(Debug)]
pub(super) struct Usage {
    memory_bytes: Gauge,
    threads: Gauge,
    open_fds: Gauge,
    cpu_seconds: Counter,
}

impl Usage {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let gauge = |name, help| Gauge::with_opts(Opts::new(name, help));
        Ok(Self {
            memory_bytes: gauge("process_resident_memory_bytes", "Resident memory size in bytes.")?,
            threads: gauge("process_threads", "Number of OS threads.")?,
            open_fds: gauge("process_open_fds", "Number of open file descriptors.")?,
            cpu_seconds: Counter::new(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
            )?,
        })
    }
}

impl Collector for Usage {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [&self.memory_bytes, &self.threads, &self.open_fds];
        let gauges = gauges.into_iter().flat_map(Collector::desc);
        gauges.chain(self.cpu_seconds.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let readings = [
            (&self.memory_bytes, field(&status, "VmRSS:").map(|kib| kib * 1024.0)),
            (&self.threads, field(&status, "Threads:")),
            (&self.open_fds, open_fds()),
        ];
        for (gauge, reading) in readings {
            if let Some(value) = reading {
                gauge.set(value);
                families.extend(gauge.collect());
            }
        }
        let spent = std::time::Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
        // Another scrape may have been faster by a hair: a counter never goes back.
        self.cpu_seconds.inc_by((spent.as_secs_f64() - self.cpu_seconds.get()).max(0.0));
        families.extend(self.cpu_seconds.collect());
        families
    }
}

/// The number behind `name` in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn open_fds() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    // The listing itself holds one open.
    u32::try_from(count.saturating_sub(1)).ok().map(f64::from)
}
