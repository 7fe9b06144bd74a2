//! Which process group and session a process is in, as proc_pid_stat(5) tells it.
//!
//! Both may be led from outside of this process's pid namespace, as in a container that was entered without a terminal
//! of its own. The kernel then gives the number 0, which `rustix`'s calls for the same take to be impossible.

use std::fs;

use rustix::process::Pid;

/// Group and session of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// None when it is led from outside.
    pub(super) group: Option<Pid>,
    /// None when it is led from outside.
    pub(super) session: Option<Pid>,
}

impl Job {
    /// This process's; none where /proc is not mounted.
    pub(super) fn own() -> Option<Job> {
        parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// That of the process `id`; none when it is gone, or lies outside.
    pub(super) fn of(id: u32) -> Option<Job> {
        parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }
}

/// The fields after the name, which is in parentheses and may hold any character: state, parent, group, session.
fn parse(stat: &str) -> Option<Job> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut numbers = fields.split_whitespace().skip(2).map(str::parse);
    let mut next = || numbers.next()?.ok().map(Pid::from_raw);
    Some(Job { group: next()?, session: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_and_session_follow_a_name_of_any_kind() {
        let job = parse("12 (a) b) S 1 7 9 0 -1 4194560 1").unwrap();
        assert_eq!((job.group, job.session), (Pid::from_raw(7), Pid::from_raw(9)));
        assert_eq!(parse("12 (sh) S 1 0 0 0 -1").unwrap(), Job { group: None, session: None });
        for rubbish in ["", "12 sh S 1 7 9", "12 (sh) S", "12 (sh) S 1 7", "12 (sh) S 1 x 9"] {
            assert_eq!(parse(rubbish), None, "{rubbish}");
        }
        assert_eq!(Job::own(), Job::of(std::process::id()));
        assert_ne!(Job::own(), None);
    }
}
