//! The travelling salesman's shortest round trip, by branch and bound.
//!
//! The trips that begin with the same two steps are one piece of work. The pieces lie in shared memory, and members take them one by
//! one under a lock. The best trip so far is under another lock; a member looks at its length whenever it takes a piece, and
//! again when it has found a better one itself. So every access is ordered by a lock.

use pagemesh::Placement;

use super::Program;
use super::random::Random;
use super::shared::Shared;
use super::team::{Cost, Team, TeamError};

/// Side of the square in which the cities lie.
const SIDE: u64 = 1000;

const WORK_LOCK: usize = 0;
const BEST_LOCK: usize = 1;

/// Word of the work region that counts the pieces that were taken.
const TAKEN: usize = 0;

/// Cities, and where they are.
#[derive(Debug, Clone, Copy)]
pub struct Salesman {
    /// How many.
    pub cities: usize,
    /// From which their places follow.
    pub seed: u64,
}

/// A round trip that begins in city 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trip {
    /// How long it is.
    pub length: u64,
    /// The cities in turn.
    pub cities: Vec<u8>,
}

/// What the search needs to know of the cities.
#[derive(Debug, Clone)]
pub struct Map {
    cities: usize,
    distances: Vec<u64>,
    /// For each city, the others, the nearest first.
    nearest: Vec<Vec<u8>>,
    /// For each city, the distance to the nearest other.
    least: Vec<u64>,
}

impl Map {
    fn new(salesman: Salesman) -> Self {
        let cities = salesman.cities;
        let mut random = Random::new(salesman.seed);
        let places: Vec<(u64, u64)> = (0..cities).map(|_| (random.below(SIDE), random.below(SIDE))).collect();
        let distance = |a: usize, b: usize| {
            let (x, y) = (places[a].0.abs_diff(places[b].0), places[a].1.abs_diff(places[b].1));
            (x * x + y * y).isqrt()
        };
        let distances: Vec<u64> = (0..cities * cities).map(|at| distance(at / cities, at % cities)).collect();
        let nearest: Vec<Vec<u8>> = (0..cities)
            .map(|from| {
                let mut others: Vec<u8> = (0..cities as u8).filter(|to| *to as usize != from).collect();
                others.sort_by_key(|to| (distances[from * cities + *to as usize], *to));
                others
            })
            .collect();
        let least = (0..cities).map(|from| distances[from * cities + nearest[from][0] as usize]).collect();
        Self { cities, distances, nearest, least }
    }

    fn distance(&self, a: u8, b: u8) -> u64 {
        self.distances[a as usize * self.cities + b as usize]
    }

    /// Always on to the nearest city that is left.
    fn greedy(&self) -> Trip {
        let mut cities = vec![0];
        while cities.len() < self.cities {
            let from = *cities.last().expect("there is a first") as usize;
            cities.extend(self.nearest[from].iter().find(|to| !cities.contains(to)).copied());
        }
        Trip { length: self.length(&cities), cities }
    }

    fn length(&self, cities: &[u8]) -> u64 {
        let steps = cities.iter().zip(cities.iter().cycle().skip(1));
        steps.map(|(a, b)| self.distance(*a, *b)).sum()
    }

    /// The first two steps of every piece of work, nearest first.
    fn pieces(&self) -> Vec<[u8; 2]> {
        let second = |first: u8| {
            let on = self.nearest[first as usize].iter().filter(|to| **to != 0);
            on.map(move |second| [first, *second])
        };
        self.nearest[0].iter().flat_map(|first| second(*first)).collect()
    }
}

/// A search through all trips with the same beginning.
struct Search<'a, F> {
    map: &'a Map,
    trip: Vec<u8>,
    visited: u32,
    /// Only shorter trips are of interest.
    bound: u64,
    /// Told of each trip that is shorter; returns the new bound.
    found: F,
}

impl<F: FnMut(u64, &[u8]) -> Result<u64, TeamError>> Search<'_, F> {
    /// Searches on from the trip so far, of this length. `least_left` is the sum of the shortest ways out of the cities that are
    /// left, and of the last.
    fn go(&mut self, length: u64, least_left: u64) -> Result<(), TeamError> {
        let map = self.map;
        let from = *self.trip.last().expect("a trip has a beginning");
        if self.trip.len() == map.cities {
            let length = length + map.distance(from, 0);
            if length < self.bound {
                self.bound = (self.found)(length, &self.trip)?;
            }
            return Ok(());
        }
        let least_left = least_left - map.least[from as usize];
        for to in &map.nearest[from as usize] {
            let step = map.distance(from, *to);
            if length + step + least_left >= self.bound {
                // All that follow are farther away.
                break;
            }
            if self.visited & 1 << to == 0 {
                self.visited |= 1 << to;
                self.trip.push(*to);
                self.go(length + step, least_left)?;
                self.trip.pop();
                self.visited &= !(1 << to);
            }
        }
        Ok(())
    }

    /// Searches through a piece of work.
    fn piece(&mut self, [first, second]: [u8; 2]) -> Result<(), TeamError> {
        let map = self.map;
        self.trip.clear();
        self.trip.extend([0, first, second]);
        self.visited = 1 | 1 << first | 1 << second;
        let length = map.distance(0, first) + map.distance(first, second);
        let passed = map.least[0] + map.least[first as usize];
        self.go(length, map.least.iter().sum::<u64>() - passed)
    }
}

/// The best trip in shared memory: its length, then its cities.
struct Best<'a> {
    team: &'a Team<'a>,
    shared: Shared<u64>,
}

impl Best<'_> {
    fn length(&self) -> Result<u64, TeamError> {
        self.team.locked(BEST_LOCK, || Ok(self.shared.get(0)?))
    }

    /// Keeps a trip if it is still the best; returns the length of the best.
    fn offer(&self, length: u64, cities: &[u8]) -> Result<u64, TeamError> {
        self.team.locked(BEST_LOCK, || {
            let known = self.shared.get(0)?;
            if length < known {
                self.put(length, cities)?;
            }
            Ok(known.min(length))
        })
    }

    fn put(&self, length: u64, cities: &[u8]) -> Result<(), TeamError> {
        let words: Vec<u64> = std::iter::once(length).chain(cities.iter().copied().map(u64::from)).collect();
        Ok(self.shared.write(0, &words)?)
    }

    fn trip(&self, cities: usize) -> Result<Trip, TeamError> {
        let mut words = vec![0; 1 + cities];
        self.shared.read(0, &mut words)?;
        Ok(Trip { length: words[0], cities: words[1..].iter().map(|city| *city as u8).collect() })
    }
}

impl Salesman {
    /// Takes pieces of work until there is none.
    fn work(self, team: &Team<'_>, map: &Map, work: &Shared<u64>, best: &Best<'_>) -> Result<(), TeamError> {
        let found = |length, trip: &[u8]| best.offer(length, trip);
        let mut search = Search { map, trip: Vec::with_capacity(self.cities), visited: 0, bound: 0, found };
        loop {
            let piece = team.locked(WORK_LOCK, || {
                let taken = work.get(TAKEN)? as usize;
                if 1 + taken == work.len() {
                    return Ok(None);
                }
                work.set(TAKEN, taken as u64 + 1)?;
                Ok(Some(work.get(1 + taken)?))
            })?;
            let Some(piece) = piece else { return Ok(()) };
            search.bound = best.length()?;
            search.piece([piece as u8, (piece >> 8) as u8])?;
        }
    }
}

impl Program for Salesman {
    type Answer = Trip;
    type Prepared = Map;

    fn prepare(&self) -> Map {
        Map::new(*self)
    }

    fn sequential(&self, map: Map) -> Trip {
        let mut best = map.greedy();
        let bound = best.length;
        let found = |length, cities: &[u8]| {
            best = Trip { length, cities: cities.to_vec() };
            Ok(length)
        };
        let mut search =
            Search { map: &map, trip: Vec::with_capacity(self.cities), visited: 0, bound, found };
        for piece in map.pieces() {
            search.piece(piece).expect("private memory can always be had");
        }
        best
    }

    fn take_part(&self, team: &Team<'_>) -> Result<(Option<Trip>, Cost), TeamError> {
        let map = Map::new(*self);
        let pieces = map.pieces();
        let work: Shared<u64> = team.share(0, 1 + pieces.len(), Placement::Cyclic)?;
        let best = Best { team, shared: team.share(1, 1 + self.cities, Placement::Cyclic)? };
        if team.member() == 0 {
            let words = pieces.iter().map(|[first, second]| u64::from(*first) | u64::from(*second) << 8);
            work.write(0, &std::iter::once(0).chain(words).collect::<Vec<u64>>())?;
            let greedy = map.greedy();
            best.put(greedy.length, &greedy.cities)?;
        }
        let clock = team.start_clock()?;
        self.work(team, &map, &work, &best)?;
        let cost = clock.stop()?;
        let answer = if team.member() == 0 { Some(best.trip(self.cities)?) } else { None };
        Ok((answer, cost))
    }

    /// Which of several shortest trips is found depends on who is faster; how long it is does not.
    fn check(&self, reference: &Trip, found: &Trip) -> Result<(), String> {
        let mut sorted = found.cities.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..self.cities as u8) {
            return Err(format!("{:?} does not visit every city once", found.cities));
        }
        let length = Map::new(*self).length(&found.cities);
        if length != found.length || length != reference.length {
            return Err(format!(
                "a trip of length {length} is said to have {}; the shortest has {}",
                found.length, reference.length
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shortest of all trips that begin so, tried one by one.
    fn shortest(map: &Map, trip: &mut Vec<u8>) -> u64 {
        if trip.len() == map.cities {
            return map.length(trip);
        }
        let mut least = u64::MAX;
        for city in 1..map.cities as u8 {
            if !trip.contains(&city) {
                trip.push(city);
                least = least.min(shortest(map, trip));
                trip.pop();
            }
        }
        least
    }

    #[test]
    fn no_trip_is_shorter_than_the_one_that_is_found() {
        for seed in 0..5 {
            for cities in 4..8 {
                let salesman = Salesman { cities, seed };
                let map = salesman.prepare();
                let best = salesman.sequential(map.clone());
                assert_eq!(best.length, shortest(&map, &mut vec![0]), "seed {seed}, {cities} cities");
                salesman.check(&best, &best).unwrap();
            }
        }
    }
}
