//! A value that means nothing on another node, or that has bytes which are no value, cannot be shared.

use pagemesh::{Atomic, Mutex, RwLock, SharedSlice};
use std::rc::Rc;

/// Three bytes between its fields belong to no field: what they are is nobody's to say.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(dead_code)]
struct Padded {
    small: u8,
    large: u32,
}

fn text(_: Mutex<String>) {}
fn list(_: RwLock<Vec<u64>>) {}
fn boxed(_: Mutex<Box<u64>>) {}
fn reference(_: Mutex<&'static u64>) {}
fn counted(_: RwLock<Rc<u64>>) {}
fn pointer(_: Mutex<*const u64>) {}
fn truth(_: Mutex<bool>) {}
fn letters(_: RwLock<[char; 4]>) {}
fn padded(_: Mutex<Padded>) {}
fn item(region: &pagemesh::Region) {
    let _ = region.slice::<&'static str>(0, 1);
}
fn slice(_: Mutex<SharedSlice<u64>>) {}
fn nested(_: Mutex<Mutex<u64>>) {}
fn small_word(_: Atomic<u32>) {}

fn main() {}
