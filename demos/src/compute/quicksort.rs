//! Quicksort of an array in shared memory, with a stack of parts that are yet to be sorted, under a lock.
//!
//! A member that takes a part reads it, splits it by a pivot, writes the upper half back and leaves it to whoever is free, and
//! goes on with the lower one. Small parts are sorted on the spot. Whoever finds the stack empty looks again a little later.

use std::time::Duration;

use pagemesh::Placement;

use super::Program;
use super::random::Random;
use super::shared::Shared;
use super::team::{Cost, Team, TeamError};

const LOCK: usize = 0;

/// Into how many parts an array is split at the least, as long as they are not smaller than [`PART_ITEMS_MIN`].
const PARTS: usize = 64;

/// Parts this small are not split further: a page of items.
const PART_ITEMS_MIN: usize = 512;

/// Words of the stack's region: how many items are sorted, how many parts lie on the stack, and the parts.
const SORTED: usize = 0;
const DEPTH: usize = 1;
const FIRST: usize = 2;

/// Parts on the stack; one more is sorted by whoever has it.
const DEPTH_MAX: usize = 255;

/// Words of the stack's region.
pub(super) const STACK_WORDS: usize = FIRST + 2 * DEPTH_MAX;

/// How long to wait, first and at most, before looking again for work.
const PAUSE: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(1));

/// Items, and what they are.
#[derive(Debug, Clone, Copy)]
pub struct Quicksort {
    /// How many.
    pub items: usize,
    /// From which they follow.
    pub seed: u64,
}

/// Orders `items` by a pivot: all before the returned index are less than all from there on, or equal. Neither side is empty
/// unless all are alike; then the index is 0.
fn split(items: &mut [u64]) -> usize {
    let pivot = pivot(items);
    let (mut low, mut high) = (0, items.len());
    while low < high {
        if items[low] < pivot {
            low += 1;
        } else {
            high -= 1;
            items.swap(low, high);
        }
    }
    low
}

/// The median of some items, and more than the least where they are not all alike.
fn pivot(items: &[u64]) -> u64 {
    let mut samples: [u64; 9] = std::array::from_fn(|place| items[place * (items.len() - 1) / 8]);
    samples.sort_unstable();
    let above_least = samples[4..].iter().chain(items).find(|item| **item > samples[0]);
    match above_least {
        _ if samples[4] > samples[0] => samples[4],
        Some(item) => *item,
        // The least may lie between the samples.
        None => samples[0],
    }
}

/// Sorts in place, in one thread.
fn quicksort(mut items: &mut [u64]) {
    while items.len() > 24 {
        let middle = split(items);
        if middle == 0 {
            return;
        }
        let (lower, upper) = items.split_at_mut(middle);
        if lower.len() < upper.len() {
            quicksort(lower);
            items = upper;
        } else {
            quicksort(upper);
            items = lower;
        }
    }
    for end in 1..items.len() {
        let item = items[end];
        let mut place = end;
        while place > 0 && items[place - 1] > item {
            items[place] = items[place - 1];
            place -= 1;
        }
        items[place] = item;
    }
}

/// The stack in shared memory.
struct Stack<'a> {
    team: &'a Team<'a>,
    words: Shared<u64>,
    items: usize,
}

/// What the stack has for a member.
enum Task {
    Part {
        start: usize,
        len: usize,
    },
    /// Others are at work and may leave something yet.
    Later,
    Done,
}

impl Stack<'_> {
    fn take(&self) -> Result<Task, TeamError> {
        self.team.locked(LOCK, || {
            if self.words.get(SORTED)? == self.items as u64 {
                return Ok(Task::Done);
            }
            let Some(depth) = self.words.get(DEPTH)?.checked_sub(1) else { return Ok(Task::Later) };
            self.words.set(DEPTH, depth)?;
            let mut part = [0; 2];
            self.words.read(FIRST + 2 * depth as usize, &mut part)?;
            Ok(Task::Part { start: part[0] as usize, len: part[1] as usize })
        })
    }

    /// False when there is no room.
    fn leave(&self, start: usize, len: usize) -> Result<bool, TeamError> {
        self.team.locked(LOCK, || {
            let depth = self.words.get(DEPTH)? as usize;
            if depth == DEPTH_MAX {
                return Ok(false);
            }
            self.words.write(FIRST + 2 * depth, &[start as u64, len as u64])?;
            self.words.set(DEPTH, depth as u64 + 1)?;
            Ok(true)
        })
    }

    fn add_sorted(&self, items: usize) -> Result<(), TeamError> {
        self.team.locked(LOCK, || Ok(self.words.set(SORTED, self.words.get(SORTED)? + items as u64)?))
    }
}

impl Quicksort {
    fn part_items_max(self) -> usize {
        (self.items / PARTS).max(PART_ITEMS_MIN)
    }

    fn initial(self, items: std::ops::Range<usize>) -> Vec<u64> {
        let mut random = Random::from_number(self.seed, items.start as u64);
        items.map(|_| random.next()).collect()
    }

    /// Splits and sorts a part.
    fn sort(
        self,
        stack: &Stack<'_>,
        shared: &Shared<u64>,
        start: usize,
        part: &mut [u64],
    ) -> Result<(), TeamError> {
        shared.fetch(start, part)?;
        let mut own = &mut part[..];
        while own.len() > self.part_items_max() {
            let middle = split(own);
            if middle == 0 {
                break;
            }
            shared.put(start + middle, &own[middle..])?;
            if !stack.leave(start + middle, own.len() - middle)? {
                break;
            }
            own = &mut own[..middle];
        }
        quicksort(own);
        shared.put(start, own)?;
        stack.add_sorted(own.len())
    }

    fn work(self, stack: &Stack<'_>, shared: &Shared<u64>) -> Result<(), TeamError> {
        let mut buffer = Vec::new();
        let mut pause = PAUSE.0;
        loop {
            match stack.take()? {
                Task::Done => return Ok(()),
                Task::Later => {
                    stack.team.pause(pause)?;
                    pause = (2 * pause).min(PAUSE.1);
                }
                Task::Part { start, len } => {
                    buffer.resize(buffer.len().max(len), 0);
                    self.sort(stack, shared, start, &mut buffer[..len])?;
                    pause = PAUSE.0;
                }
            }
        }
    }
}

impl Program for Quicksort {
    type Answer = Vec<u64>;
    type Prepared = Vec<u64>;

    fn prepare(&self) -> Vec<u64> {
        self.initial(0..self.items)
    }

    fn sequential(&self, mut items: Vec<u64>) -> Vec<u64> {
        quicksort(&mut items);
        items
    }

    fn take_part(&self, team: &Team<'_>) -> Result<(Option<Vec<u64>>, Cost), TeamError> {
        let shared = team.share(0, self.items, Placement::Block)?;
        let words = team.share(1, STACK_WORDS, Placement::Cyclic)?;
        let stack = Stack { team, words, items: self.items };
        let band = team.band(self.items);
        shared.put(band.start, &self.initial(band.clone()))?;
        if team.member() == 0 {
            stack.words.write(0, &[0, 1, 0, self.items as u64])?;
        }
        let clock = team.start_clock()?;
        self.work(&stack, &shared)?;
        let cost = clock.stop()?;
        let answer = match team.member() {
            0 => {
                let mut answer = vec![0; self.items];
                shared.fetch(0, &mut answer)?;
                Some(answer)
            }
            _ => None,
        };
        Ok((answer, cost))
    }

    fn check(&self, reference: &Vec<u64>, found: &Vec<u64>) -> Result<(), String> {
        let differs = reference.iter().zip(found).position(|(a, b)| a != b);
        differs.map_or(Ok(()), |at| Err(format!("item {at} is {}, not {}", found[at], reference[at])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_orders_are_sorted() {
        let mut random = Random::new(3);
        for len in [0, 1, 2, 23, 24, 25, 100, 5000] {
            for kinds in [1, 2, 3, 50, u64::MAX] {
                let mut items: Vec<u64> = (0..len).map(|_| random.below(kinds)).collect();
                for _ in 0..3 {
                    let mut expected = items.clone();
                    expected.sort_unstable();
                    let mut sorted = items.clone();
                    quicksort(&mut sorted);
                    assert_eq!(sorted, expected);
                    items = sorted;
                    items.reverse();
                }
            }
        }
    }

    #[test]
    fn a_split_has_two_sides_unless_all_are_alike() {
        for items in [vec![5; 30], vec![1, 5, 5, 5, 5, 5, 5, 5, 5, 5], vec![5, 5, 5, 1, 5, 5, 5, 5, 5, 5]] {
            let mut split_items = items.clone();
            let middle = split(&mut split_items);
            let (lower, upper) = split_items.split_at(middle);
            assert!(lower.iter().max() <= upper.iter().min(), "{split_items:?}");
            assert_eq!(middle == 0, items.iter().all(|item| *item == items[0]), "{items:?}");
        }
    }
}
