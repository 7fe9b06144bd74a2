//! What is had under a lock is had by the thread that took it, as long as its guard lives, and in the way that it was asked for.

use pagemesh::{Atomic, Mutex, MutexGuard, RangeGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

fn goes_to_another_thread<T: Send>() {}

fn of_another_thread() {
    goes_to_another_thread::<MutexGuard<'static, u64>>();
    goes_to_another_thread::<RwLockReadGuard<u64>>();
    goes_to_another_thread::<RwLockWriteGuard<'static, u64>>();
    goes_to_another_thread::<RangeGuard>();
}

fn beyond_its_guard(mutex: &Mutex<[u64; 4]>) -> u64 {
    let kept: &mut u64 = {
        let mut guard = mutex.lock().unwrap();
        &mut guard[2]
    };
    *kept
}

fn beyond_a_readers_guard(lock: &RwLock<u64>) -> u64 {
    let kept: &u64 = &*lock.read().unwrap();
    *kept
}

fn written_by_a_reader(lock: &RwLock<u64>) {
    *lock.read().unwrap() += 1;
}

fn copied_from_the_memory(word: &Atomic<u64>) -> u64 {
    *word
}

fn main() {}
