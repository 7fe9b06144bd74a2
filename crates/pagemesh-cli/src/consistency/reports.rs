//! Files in memory through which the nodes report: one each, inherited by number, readable when its node is long dead.

use anyhow::Context as _;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;

/// The launcher's side.
pub(super) struct Reports(Vec<File>);

impl Reports {
    /// An empty report for each of `nodes` nodes.
    pub(super) fn new(nodes: u16) -> anyhow::Result<Reports> {
        // Without MFD_CLOEXEC: the nodes inherit the descriptors.
        let create = |_| Ok(File::from(memfd_create("pagemesh-report", MemfdFlags::empty())?));
        let files: io::Result<Vec<File>> = (0..nodes).map(create).collect();
        Ok(Reports(files.context("the nodes cannot be given a place for their reports")?))
    }

    /// What tells the nodes where to report: the numbers of the descriptors.
    pub(super) fn argument(&self) -> String {
        let numbers: Vec<String> = self.0.iter().map(|file| file.as_raw_fd().to_string()).collect();
        numbers.join(",")
    }

    /// What each node wrote.
    pub(super) fn read(self) -> anyhow::Result<Vec<Vec<u8>>> {
        let read = |mut file: File| {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let all: io::Result<Vec<Vec<u8>>> = self.0.into_iter().map(read).collect();
        all.context("the nodes' reports cannot be read")
    }
}

/// A node's side: its own report among those that [`Reports::argument`] names.
pub(super) fn open(numbers: &[i32], node: usize) -> anyhow::Result<File> {
    let number = numbers.get(node).context("there is no report for this node")?;
    // Opened anew, the file has a position of its own.
    let path = format!("/proc/self/fd/{number}");
    OpenOptions::new().append(true).open(path).context("this node's report cannot be opened")
}
