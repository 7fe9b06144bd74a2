//! The settings in the environment, looked at before any node starts: one message, and not one of each node.

use std::env;
use std::fmt;

use pagemesh::{Config, ConfigError};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::preload;

/// What settings begin with.
const PREFIX: &str = "PAGEMESH_";

/// What the tests of pagemesh tell their processes begins with.
const TESTS: &str = "PAGEMESH_TEST_";

/// What is logged.
const LOG: &str = "PAGEMESH_LOG";

/// What is read by others than [`Config`]: the programs here, and C programs.
const OTHERS: [&str; 3] = [LOG, "PAGEMESH_PROTOCOL", preload::VARIABLE];

/// Changes that a slip of the hand makes at most.
const SLIPS: usize = 3;

/// A variable that looks like a setting and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    name: String,
    meant: Option<String>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, meant } = self;
        write!(formatter, "{name} is set, and nothing reads it; ")?;
        match meant {
            Some(meant) => write!(formatter, "{meant} is a setting"),
            None => write!(formatter, "the README lists the settings"),
        }
    }
}

/// Variables of the environment that look like settings of pagemesh and are none, in the order of their names.
pub fn unknown() -> Vec<Unknown> {
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unknown: Vec<Unknown> = names.filter_map(|name| unknown_setting(&name)).collect();
    unknown.sort_by(|one, other| one.name.cmp(&other.name));
    unknown
}

/// Says on stderr which variables nothing reads.
pub fn warn(title: &str) {
    for unknown in unknown() {
        eprintln!("{title}: warning: {unknown}");
    }
}

/// As [`warn`], and looks whether the settings of the nodes are ones.
///
/// # Errors
/// The first that is none.
pub fn check(title: &str) -> Result<(), ConfigError> {
    warn(title);
    Config::single().with_env().map(drop)
}

/// What `PAGEMESH_LOG` asks to be logged; warnings where it is not set.
///
/// # Errors
/// When it is neither a level nor directives for parts of pagemesh. A word that is no level would be taken for such a part, and hide
/// all others.
pub fn log_filter() -> Result<EnvFilter, LogError> {
    let text = env::var_os(LOG).unwrap_or_default().to_string_lossy().into_owned();
    log_directives(&text)
}

/// `PAGEMESH_LOG` is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "PAGEMESH_LOG is {found:?}; set it to off, error, warn, info, debug or trace, or to directives such as pagemesh_net=debug"
)]
pub struct LogError {
    found: String,
}

fn log_directives(text: &str) -> Result<EnvFilter, LogError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(EnvFilter::new("warn"));
    }
    let is_known = |directive: &str| {
        let directive = directive.trim();
        let is_part = directive.contains('=') || directive.starts_with("pagemesh");
        !directive.is_empty() && (is_part || directive.parse::<LevelFilter>().is_ok())
    };
    let error = || LogError { found: text.to_owned() };
    if !text.split(',').all(is_known) {
        return Err(error());
    }
    EnvFilter::try_new(text).map_err(|_| error())
}

fn unknown_setting(name: &str) -> Option<Unknown> {
    let mut known = Config::variables();
    known.extend(OTHERS.map(str::to_owned));
    if !name.starts_with(PREFIX) || name.starts_with(TESTS) || known.iter().any(|known| known == name) {
        return None;
    }
    let nearest = known.into_iter().map(|known| (changes(name, &known), known)).min();
    let meant = nearest.filter(|(changes, _)| *changes <= SLIPS).map(|(_, known)| known);
    Some(Unknown { name: name.to_owned(), meant })
}

/// How many letters have to be changed, put in or left out to make one of the other (Levenshtein's distance).
fn changes(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, wanted) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(letter != wanted);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_known_and_slips_are_told() {
        for known in
            ["PAGEMESH_PAGER", "PAGEMESH_NODE", "PAGEMESH_LOG", "PAGEMESH_TEST_ANY", "PATH", "PAGEMESH"]
        {
            assert_eq!(unknown_setting(known), None, "{known}");
        }
        for (slip, said) in [
            ("PAGEMESH_PAGRE", "PAGEMESH_PAGRE is set, and nothing reads it; PAGEMESH_PAGER is a setting"),
            ("PAGEMESH_SHARD", "PAGEMESH_SHARD is set, and nothing reads it; PAGEMESH_SHARDS is a setting"),
            (
                "PAGEMESH_WHATEVER",
                "PAGEMESH_WHATEVER is set, and nothing reads it; the README lists the settings",
            ),
        ] {
            assert_eq!(unknown_setting(slip).unwrap().to_string(), said);
        }
    }

    #[test]
    fn words_that_are_no_levels_are_refused() {
        for good in [
            "",
            "debug",
            "WARN",
            "off",
            "pagemesh=debug",
            "pagemesh_net",
            "warn,pagemesh_net=trace",
            " info ",
        ] {
            assert!(log_directives(good).is_ok(), "{good:?}");
        }
        for wrong in ["debu", "loud", "warn,debu", "pagemesh=loud", ","] {
            assert!(log_directives(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn changes_are_counted() {
        for (one, other, count) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "acb", 2), ("", "abc", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!((changes(one, other), changes(other, one)), (count, count), "{one} {other}");
        }
    }
}
