//! What the library says on standard error: nothing, unless the program asks for it.

use crate::error::value;
use std::ffi::c_int;
use std::sync::OnceLock;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

/// Sets how much is logged: 0 nothing to 4 everything; what lies beyond counts as the nearest.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_set_log_level(level: c_int) {
    value("dsm_set_log_level", (), || {
        set_level(level);
        Ok(())
    });
}

/// As [`dsm_set_log_level`]. A program that has its own subscriber keeps it, and decides itself.
pub(crate) fn set_level(level: c_int) {
    static FILTER: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();
    let level = match level {
        ..=0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4.. => LevelFilter::DEBUG,
    };
    if level == LevelFilter::OFF && FILTER.get().is_none() {
        return;
    }
    let filter = FILTER.get_or_init(|| {
        let (filter, handle) = reload::Layer::new(level);
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(filter).with(lines);
        let _ = tracing::subscriber::set_global_default(subscriber);
        handle
    });
    // It fails only where the subscriber is gone.
    let _ = filter.reload(level);
}
