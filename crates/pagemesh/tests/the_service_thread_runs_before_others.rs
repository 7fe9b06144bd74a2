//! A node answers for its pages while its program computes. Its service thread is woken for that, and must not wait for the scheduler
//! to come round: it asks for a higher priority than the program's threads, gets what this user may have, and leaves the
//! program's own threads as they are. Who does not want that can say so.

use pagemesh::{Config, ConfigError, Mesh, priority};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_mins(1);

/// The nice value of a thread: field 19 of proc_pid_stat(5), counted from the name, which may hold blanks.
fn nice(task: &Path) -> Option<i32> {
    let stat = fs::read_to_string(task.join("stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(19 - 3)?.parse().ok()
}

/// Those of this process's service threads.
fn service_threads() -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let is_service =
        |task: &Path| fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "pagemesh\n");
    tasks.filter(|task| is_service(task)).filter_map(|task| nice(&task)).collect()
}

/// Joins, and waits until the service thread has that nice value.
fn joined_with(config: Config, expected: i32) {
    let own = nice(Path::new("/proc/thread-self")).unwrap();
    let mesh = Mesh::join(config).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while service_threads() != [expected] {
        assert!(Instant::now() < deadline, "{:?} instead of {expected}", service_threads());
        std::thread::yield_now();
    }
    assert_eq!(nice(Path::new("/proc/thread-self")), Some(own), "this thread is the program's");
    mesh.leave().unwrap();
}

/// One test: the service threads of tests at the same time could not be told apart.
#[test]
fn the_service_thread_gets_what_this_user_may_have() {
    let own = nice(Path::new("/proc/thread-self")).unwrap();
    let (known, obtainable) = priority::obtainable().unwrap();
    assert_eq!(known, own);
    assert!((own - priority::SERVICE_BELOW..=own).contains(&obtainable), "{obtainable} beside {own}");
    joined_with(Config::single(), obtainable);
    joined_with(Config::single().service_nice(own), own);
    // To be nicer is always allowed.
    joined_with(Config::single().service_nice(19), 19);
}

#[test]
fn a_wrong_setting_is_named() {
    let variables = |nice: &'static str| {
        move |name: &str| {
            let value = match name {
                "PAGEMESH_NODE" => "0",
                "PAGEMESH_NODES" => "1",
                "PAGEMESH_COORDINATOR" => "127.0.0.1:7000",
                "PAGEMESH_SERVICE_NICE" => nice,
                _ => return None,
            };
            Some(value.to_owned())
        }
    };
    for right in ["-20", "0", "19"] {
        Config::from_variables(variables(right)).unwrap();
    }
    for wrong in ["-21", "20", "high", ""] {
        let refused = Config::from_variables(variables(wrong)).unwrap_err();
        assert!(
            matches!(refused, ConfigError::Invalid { name: "PAGEMESH_SERVICE_NICE", .. }),
            "{wrong:?}: {refused}"
        );
    }
}
