//! How page faults are resolved, which ways there are on this machine, and which was chosen.

pub use pagemesh_memory::{
    Chosen, HANDLER_FEATURES, Improvement, Opening, PagerChoiceError, PagerKind, Privileges, Probe,
    SIGBUS_FEATURES, UffdError, choose, probe, uffd,
};
