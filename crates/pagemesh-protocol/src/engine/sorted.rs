//! A map for few entries that asks for no memory while it has room: what a fault adds to must not allocate.

use std::ops::RangeInclusive;

/// Entries in the order of their keys, side by side.
#[derive(Clone, Debug, Hash)]
pub(super) struct SortedMap<K, V> {
    entries: Vec<(K, V)>,
}

impl<K: Ord + Copy, V> SortedMap<K, V> {
    pub(super) fn with_capacity(entries: usize) -> SortedMap<K, V> {
        SortedMap { entries: Vec::with_capacity(entries) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn place(&self, key: K) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&key, |(known, _)| *known)
    }

    pub(super) fn contains(&self, key: K) -> bool {
        self.place(key).is_ok()
    }

    pub(super) fn get(&self, key: K) -> Option<&V> {
        self.place(key).ok().map(|place| &self.entries[place].1)
    }

    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.place(key).ok().map(|place| &mut self.entries[place].1)
    }

    /// Adds an entry, or replaces the value of one.
    pub(super) fn insert(&mut self, key: K, value: V) {
        match self.place(key) {
            Ok(place) => self.entries[place].1 = value,
            Err(place) => self.entries.insert(place, (key, value)),
        }
    }

    /// Takes an entry out; `None` when there is none.
    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        self.place(key).ok().map(|place| self.entries.remove(place).1)
    }

    pub(super) fn retain(&mut self, mut stays: impl FnMut(K, &mut V) -> bool) {
        self.entries.retain_mut(|(key, value)| stays(*key, value));
    }

    pub(super) fn range(&self, keys: RangeInclusive<K>) -> impl Iterator<Item = (K, &V)> {
        let from = self.entries.partition_point(|(key, _)| key < keys.start());
        let end = *keys.end();
        self.entries[from..].iter().take_while(move |(key, _)| *key <= end).map(|(key, value)| (*key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_a_map(changes in prop::collection::vec((0..40_u8, any::<Option<u16>>()), 0..80), low in 0..40_u8, high in 0..40_u8) {
            let mut map = SortedMap::with_capacity(40);
            let mut model = BTreeMap::new();
            let room = map.entries.capacity();
            for (key, value) in changes {
                if let Some(value) = value {
                    map.insert(key, value);
                    model.insert(key, value);
                } else {
                    prop_assert_eq!(map.remove(key), model.remove(&key));
                }
            }
            prop_assert_eq!(map.entries.capacity(), room);
            prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
            for key in 0..40 {
                prop_assert_eq!(map.get(key), model.get(&key));
                prop_assert_eq!(map.get_mut(key).copied(), model.get(&key).copied());
                prop_assert_eq!(map.contains(key), model.contains_key(&key));
            }
            let (low, high) = (low.min(high), low.max(high));
            let there: Vec<(u8, u16)> = map.range(low..=high).map(|(key, value)| (key, *value)).collect();
            prop_assert_eq!(there, model.range(low..=high).map(|(key, value)| (*key, *value)).collect::<Vec<_>>());
            map.retain(|key, value| key % 2 == 0 && *value > 9);
            model.retain(|key, value| key % 2 == 0 && *value > 9);
            prop_assert_eq!(map.entries, model.into_iter().collect::<Vec<_>>());
        }
    }
}
