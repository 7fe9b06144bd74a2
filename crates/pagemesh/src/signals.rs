//! SIGBUS and SIGSEGV, which regions need and programs may want: for libraries that stand between the two.

pub use pagemesh_memory::sigaction;
