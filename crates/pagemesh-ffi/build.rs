//! Names the shared library's ABI: programs that were linked with one version find only libraries with the same.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The number is the ABI's, not the package's: it grows when a program would have to be compiled anew.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libdsm.so.0");
}
