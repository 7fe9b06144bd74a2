//! Error numbers, their texts, and the border that no panic crosses.

use pagemesh::{
    AccessError, AtomicError, ConfigError, JoinError, PinError, RangeError, RegionError, SyncError,
};
use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// `DSM_SUCCESS`.
pub const SUCCESS: c_int = 0;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $header:literal, $text:literal;)*) => {
        /// What failed calls return.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Code {
            $($(#[$doc])* $name = $number,)*
        }

        impl Code {
            /// Every code, with its name in the header.
            pub const ALL: &'static [(Code, &'static str)] = &[$((Code::$name, $header)),*];

            fn text(self) -> &'static CStr {
                match self {
                    $(Code::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// Not between `dsm_init` and `dsm_finalize`, or something of the machine that joining needs is missing.
    Init = -1, "DSM_ERROR_INIT", c"not initialised";
    /// No memory, no addresses, or a table is full.
    Memory = -2, "DSM_ERROR_MEMORY", c"out of memory, addresses or table entries";
    /// The network failed.
    Network = -3, "DSM_ERROR_NETWORK", c"the network failed";
    /// A deadline passed.
    Timeout = -4, "DSM_ERROR_TIMEOUT", c"the deadline has passed";
    /// There is no such thing.
    NotFound = -5, "DSM_ERROR_NOT_FOUND", c"there is no such thing";
    /// An argument or a setting makes no sense.
    Invalid = -6, "DSM_ERROR_INVALID", c"an argument or setting is not valid";
    /// It is in use.
    Busy = -7, "DSM_ERROR_BUSY", c"it is in use";
    /// The caller has no right to it.
    Permission = -8, "DSM_ERROR_PERMISSION", c"not permitted";
    /// The lock is held now, and its holder before died.
    OwnerDied = -9, "DSM_ERROR_OWNER_DIED", c"the lock is yours, and its holder before died";
    /// A node is gone.
    NodeDown = -10, "DSM_ERROR_NODE_DOWN", c"a node is gone";
}

/// Why a call failed: a number, and a sentence.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) code: Code,
    pub(crate) why: String,
}

/// What a call comes to.
pub(crate) type Answer<T> = Result<T, Failed>;

impl Failed {
    pub(crate) fn new(code: Code, why: impl Into<String>) -> Failed {
        Failed { code, why: why.into() }
    }

    pub(crate) fn invalid<T>(why: impl Into<String>) -> Answer<T> {
        Err(Failed::new(Code::Invalid, why))
    }
}

impl From<ConfigError> for Failed {
    fn from(error: ConfigError) -> Failed {
        Failed::new(Code::Invalid, error.to_string())
    }
}

impl From<JoinError> for Failed {
    fn from(error: JoinError) -> Failed {
        use pagemesh::{JoinFailure, JoinRefusal};
        let code = match &error {
            JoinError::Settings(_) => Code::Invalid,
            JoinError::Memory(_) => Code::Memory,
            JoinError::Network(failure) => match failure {
                JoinFailure::Configuration { .. }
                | JoinFailure::Refused {
                    reason: JoinRefusal::NodesDiffer | JoinRefusal::NodeOutOfRange | JoinRefusal::NodeTaken,
                    ..
                } => Code::Invalid,
                JoinFailure::Timeout { .. } => Code::Timeout,
                JoinFailure::PeerVanished { .. } => Code::NodeDown,
                _ => Code::Network,
            },
            // The pager, a thread, a descriptor.
            _ => Code::Init,
        };
        Failed::new(code, error.to_string())
    }
}

impl From<RegionError> for Failed {
    fn from(error: RegionError) -> Failed {
        let code = match &error {
            RegionError::AddressTaken { .. } | RegionError::Exhausted { .. } => Code::Memory,
            RegionError::PeerLost { .. } => Code::NodeDown,
            RegionError::TimedOut { .. } => Code::Timeout,
            RegionError::Closed { .. } => Code::Init,
            RegionError::InUse { .. } => Code::Busy,
            _ => Code::Invalid,
        };
        Failed::new(code, error.to_string())
    }
}

impl From<AccessError> for Failed {
    fn from(error: AccessError) -> Failed {
        let code = match &error {
            AccessError::PageLost { .. } | AccessError::PeerLost { .. } => Code::NodeDown,
            AccessError::TimedOut { .. } => Code::Timeout,
            AccessError::Mapping { .. } => Code::Memory,
            AccessError::Closed { .. } => Code::Init,
            _ => Code::Invalid,
        };
        Failed::new(code, error.to_string())
    }
}

impl From<AtomicError> for Failed {
    fn from(error: AtomicError) -> Failed {
        let code = match error {
            AtomicError::Access(access) => return access.into(),
            AtomicError::Range(range) => return range.into(),
            AtomicError::NodeLost { .. } | AtomicError::NoAnswer { .. } => Code::NodeDown,
            _ => Code::Invalid,
        };
        Failed::new(code, error.to_string())
    }
}

impl From<PinError> for Failed {
    fn from(error: PinError) -> Failed {
        let code = match error {
            PinError::Access(access) => return access.into(),
            PinError::Taken { .. } => Code::Timeout,
            PinError::TooMany { .. } => Code::Memory,
            _ => Code::Invalid,
        };
        Failed::new(code, error.to_string())
    }
}

impl From<RangeError> for Failed {
    fn from(error: RangeError) -> Failed {
        let code = match error {
            RangeError::Sync(waiting) => return waiting.into(),
            RangeError::NotEntry { .. } => {
                let why =
                    "only regions with DSM_PROTOCOL_ENTRY or DSM_PROTOCOL_RELEASE have ranges to be locked";
                return Failed::new(Code::Invalid, why);
            }
            RangeError::AlreadyHeld { .. } | RangeError::Busy { .. } => Code::Busy,
            RangeError::NotHeld { .. } => Code::Permission,
            _ => Code::Invalid,
        };
        Failed::new(code, error.to_string())
    }
}

impl From<SyncError> for Failed {
    fn from(error: SyncError) -> Failed {
        let code = match &error {
            SyncError::PeerLost { .. } => Code::NodeDown,
            SyncError::OwnerDied { .. } => Code::OwnerDied,
            SyncError::TimedOut { .. } => Code::Timeout,
            SyncError::Limit { .. } => Code::Memory,
            SyncError::Closed { .. } => Code::Init,
            _ => Code::Invalid,
        };
        Failed::new(code, error.to_string())
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::new(CString::default());
}

/// Notes why `call` failed, for `dsm_last_error` on this thread.
fn note(call: &str, why: &str) {
    let text: String = format!("{call}: {why}").chars().filter(|letter| *letter != '\0').collect();
    // A thread that is just ending has no last error any more.
    let _ = LAST.try_with(|last| *last.borrow_mut() = CString::new(text).unwrap_or_default());
}

/// Runs what the C function `call` does. What it fails with, and a panic as well, becomes a number and a text.
pub(crate) fn status(call: &str, work: impl FnOnce() -> Answer<()>) -> c_int {
    guarded(call, || work().map(|()| SUCCESS)).unwrap_or_else(|code| code as c_int)
}

/// As [`status`], for a function that returns a value: `otherwise` when it fails.
pub(crate) fn value<T>(call: &str, otherwise: T, work: impl FnOnce() -> Answer<T>) -> T {
    guarded(call, work).unwrap_or(otherwise)
}

fn guarded<T>(call: &str, work: impl FnOnce() -> Answer<T>) -> Result<T, Code> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Failed { code, why })) => {
            note(call, &why);
            Err(code)
        }
        Err(panic) => {
            note(call, &format!("a mistake in the library, please report it: {}", panic_text(&*panic)));
            Err(Code::Init)
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

/// What a returned number means, in a few words that stay for ever.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_strerror(error: c_int) -> *const c_char {
    let known = Code::ALL.iter().find(|(code, _)| *code as c_int == error);
    let text = match known {
        Some((code, _)) => code.text(),
        None if error == SUCCESS => c"success",
        None => c"no such error number",
    };
    text.as_ptr()
}

/// Why the last call that failed on this thread failed. Stays until the next failure on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// The version of the library: three numbers with dots.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> String {
        // SAFETY: a text with an end.
        unsafe { CStr::from_ptr(dsm_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_an_error_and_a_text_of_this_thread() {
        assert_eq!(status("dsm_test", || panic!("no {}", 7)), Code::Init as c_int);
        assert!(last().starts_with("dsm_test: ") && last().ends_with("no 7"), "{}", last());
        assert_eq!(value("dsm_test", 3, || Failed::invalid("a\0b")), 3);
        assert_eq!(last(), "dsm_test: ab");
        std::thread::spawn(|| assert_eq!(last(), "")).join().unwrap();
    }

    #[test]
    fn every_number_has_words() {
        let words = |number| {
            // SAFETY: a text with an end.
            unsafe { CStr::from_ptr(dsm_strerror(number)) }.to_str().unwrap()
        };
        assert_eq!(words(0), "success");
        assert_eq!(words(1), words(-77));
        for (code, _) in Code::ALL {
            assert_ne!(words(*code as c_int), words(1));
        }
    }
}
