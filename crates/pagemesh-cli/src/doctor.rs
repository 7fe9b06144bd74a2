//! `pagemesh doctor`: what there is on this machine, what pagemesh makes of it, and what would make it better.

use crate::environment;
use crate::preload::{self, PreloadError};
use crate::say::{failure, say};
use clap::Args;
use pagemesh::pager::uffd::{Features, Scope};
use pagemesh::pager::{Chosen, Opening, PagerChoiceError, Probe, choose, probe};
use pagemesh::priority::{self, SERVICE_BELOW};
use pagemesh::{Config, Transport};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Whose messages these are.
const TITLE: &str = "pagemesh doctor";

/// Columns of a row's name.
const NAME_COLUMNS: usize = 28;

/// Columns of a line: what fits on most terminals, and can still be read.
const COLUMNS: usize = 100;

/// Before a command.
const BY: &str = "by: ";

/// Says what this machine offers, and exits with 1 when pagemesh cannot run here.
///
/// It looks as this user and in this place: run it where the program will run, in the same container.
/// PAGEMESH_PAGER and PAGEMESH_TRANSPORT are obeyed as by any node; it tells which settings of the environment are wrong.
#[derive(Args)]
pub struct DoctorArguments {}

/// Prints the findings and returns the exit code.
pub fn main(_: &DoctorArguments) -> ExitCode {
    let settings = environment::check(TITLE);
    let asked = settings.and_then(|()| Ok((Config::pager_from_env()?, Config::transport_from_env()?)));
    let (asked, transport) = match asked {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("{TITLE}: {error}");
            return ExitCode::from(2);
        }
    };
    let choice = choose(asked);
    if let Err(error) = say(report(&probe(), &choice, &preload::find(), transport)) {
        return failure(TITLE, &error.into());
    }
    if choice.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(
    found: &Probe,
    choice: &Result<Chosen, PagerChoiceError>,
    library: &Result<PathBuf, PreloadError>,
    transport: Transport,
) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        for (index, line) in lines(value).iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<NAME_COLUMNS$} {line}");
        }
    };
    row("kernel", &format!("Linux {}", found.kernel_release));
    row("page size", &format!("{} bytes", found.page_bytes));
    row("user", &user(found));
    row("vm.max_map_count", &found.max_map_count.map_or("unknown".to_owned(), |count| count.to_string()));
    let unprivileged = match found.unprivileged_userfaultfd {
        None => "not there",
        Some(true) => "1",
        Some(false) => "0",
    };
    row("vm.unprivileged_userfaultfd", unprivileged);
    for opening in &found.openings {
        row(&name(opening), &outcome(opening));
    }
    match found.features() {
        None => row("  its features", "unknown: it cannot be opened"),
        Some(features) => {
            for (feature, name, since) in Features::KNOWN {
                let there =
                    if features.contains(*feature) { "yes".to_owned() } else { format!("no: since {since}") };
                row(&format!("  {}", name.trim_start_matches("UFFD_FEATURE_")), &there);
            }
        }
    }
    for (kind, outcome) in &found.pagers {
        let verdict =
            outcome.as_ref().map_or_else(|cause| format!("no: {cause}"), |()| "can be had".to_owned());
        row(&format!("pager {kind}"), &verdict);
    }
    let nice = priority::obtainable();
    row("service thread", &service(nice));
    if nice.is_some_and(|(own, service)| service > own - SERVICE_BELOW) {
        row(
            "would be better",
            "a service thread that runs before the program: pages come soon from nodes that compute",
        );
        row(
            "",
            "by: ulimit -e 30 by root before the program starts, or \"NAME - nice -10\" in /etc/security/limits.conf",
        );
    }
    for improvement in &found.improvements {
        row("would be better", &improvement.gain);
        row("", &format!("{BY}{}", improvement.command));
    }
    match library {
        Ok(path) => row("preload library", &path.display().to_string()),
        Err(error) => row("preload library", &format!("none: {error}")),
    }
    row("messages on this host", &sharing(transport));
    match choice {
        Ok(chosen) => row("chosen", &format!("{}: {}", chosen.kind, reason(chosen, found))),
        Err(error) => row("pagemesh cannot run here", &error.to_string()),
    }
    text
}

/// The words of `text` in lines that fit beside a row's name. A command stays on a line of its own, to be copied.
fn lines(text: &str) -> Vec<String> {
    if text.starts_with(BY) {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is one line at least");
        if last.is_empty() {
            last.push_str(word);
        } else if NAME_COLUMNS + 1 + last.len() + 1 + word.len() <= COLUMNS {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Why this pager was chosen; what was said of another one already is not said again.
fn reason(chosen: &Chosen, found: &Probe) -> String {
    let causes = found.pagers.iter().filter_map(|(kind, outcome)| Some((kind, outcome.as_ref().err()?)));
    causes.fold(chosen.reason.clone(), |reason, (kind, cause)| {
        reason.replace(&cause.to_string(), &format!("see pager {kind} above"))
    })
}

/// What priority a node's service thread has where it runs as this user.
fn service(nice: Option<(i32, i32)>) -> String {
    match nice {
        Some((own, nice)) if nice < own => format!("nice {nice}: runs before the program's threads"),
        Some((_, nice)) => format!("nice {nice}: waits its turn where the program computes on all cores"),
        None => "cannot be started".to_owned(),
    }
}

/// What two nodes must have in common to share memory, as it is here.
fn sharing(transport: Transport) -> String {
    if transport == Transport::Tcp {
        return "TCP: PAGEMESH_TRANSPORT is tcp".to_owned();
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let network = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    let elsewhere = if transport == Transport::Ring { "no mesh" } else { "TCP" };
    format!(
        "shared memory with nodes of this user, of boot {} and in {}; else {elsewhere}",
        kernel.trim().get(..8).unwrap_or("unknown"),
        network.display()
    )
}

fn user(found: &Probe) -> String {
    let privileges = &found.privileges;
    let who = if privileges.effective_user == 0 {
        "root".to_owned()
    } else {
        privileges.effective_user.to_string()
    };
    let trace = if privileges.may_trace() { ", CAP_SYS_PTRACE" } else { ", no CAP_SYS_PTRACE" };
    let confined = if privileges.seccomp == Some(true) { ", confined by seccomp" } else { "" };
    format!("{who}{trace}{confined}")
}

fn name(opening: &Opening) -> String {
    let scope = match opening.scope {
        Scope::UserMode => ", user mode",
        Scope::UserAndKernel => "",
    };
    format!("{}{scope}", opening.way)
}

fn outcome(opening: &Opening) -> String {
    match opening.outcome {
        Ok(_) => "opens".to_owned(),
        Err(errno) => format!("refused: {errno}"),
    }
}
