//! Sets of completion indexes, as a Job's status writes them: `1,3-5,7`.

use std::fmt;

/// Ranges in ascending order, neither overlapping nor adjacent; both ends belong to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// The indexes below `limit` of a text that came from a status or a policy; what can't be read is left out.
    pub fn parse(text: &str, limit: i32) -> Self {
        let ranges = text.split(',').filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse::<i32>().ok()?, last.parse::<i32>().ok()?);
            (first >= 0 && first < limit && first <= last).then_some((first, last.min(limit - 1)))
        });
        Self::merged(ranges.collect())
    }

    fn merged(mut ranges: Vec<(i32, i32)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(i32, i32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    pub fn union(&self, other: &Self) -> Self {
        Self::merged(self.0.iter().chain(&other.0).copied().collect())
    }

    pub fn contains(&self, index: i32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    pub fn len(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many indexes both hold.
    pub fn overlap(&self, other: &Self) -> i32 {
        let (mut mine, mut theirs, mut both) = (self.0.iter().peekable(), other.0.iter().peekable(), 0);
        while let (Some(a), Some(b)) = (mine.peek(), theirs.peek()) {
            both += (a.1.min(b.1) - a.0.max(b.0) + 1).max(0);
            if a.1 <= b.1 {
                mine.next()
            } else {
                theirs.next()
            };
        }
        both
    }

    /// The indexes below `limit` that are not in the set, in ascending order.
    pub fn missing(&self, limit: i32) -> impl Iterator<Item = i32> {
        let starts = std::iter::once(0).chain(self.0.iter().map(|(_, last)| last.saturating_add(1)));
        let ends = self.0.iter().map(|(first, _)| *first).chain([limit]);
        starts.zip(ends).flat_map(move |(start, end)| start..end.min(limit))
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<T: IntoIterator<Item = i32>>(indexes: T) -> Self {
        Self::merged(indexes.into_iter().map(|index| (index, index)).collect())
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_are_written_as_ranges_of_three_and_more() {
        let written = |indexes: &[i32]| indexes.iter().copied().collect::<Indexes>().to_string();
        assert_eq!(written(&[]), "");
        assert_eq!(written(&[3, 1, 2]), "1-3");
        assert_eq!(written(&[0, 1, 3, 7, 6, 5]), "0,1,3,5-7");
    }

    #[test]
    fn what_cannot_be_read_or_is_out_of_range_is_left_out() {
        let read = |text: &str| Indexes::parse(text, 10).to_string();
        assert_eq!(read(""), "");
        assert_eq!(read("1,x,4-5,8-20,30"), "1,4,5,8,9");
        assert_eq!(read("5-3,-1,7"), "7");
    }

    proptest! {
        #[test]
        fn they_agree_with_plain_sets(
            a in prop::collection::btree_set(0i32..40, 0..30),
            b in prop::collection::btree_set(0i32..40, 0..30),
        ) {
            let (left, right): (Indexes, Indexes) = (a.iter().copied().collect(), b.iter().copied().collect());
            prop_assert_eq!(Indexes::parse(&left.to_string(), 40), left.clone());
            prop_assert_eq!(left.len() as usize, a.len());
            prop_assert_eq!(left.union(&right), a.union(&b).copied().collect());
            prop_assert_eq!(left.overlap(&right) as usize, a.intersection(&b).count());
            let missing: BTreeSet<i32> = left.missing(35).collect();
            prop_assert_eq!(missing, (0..35).filter(|index| !a.contains(index)).collect());
            prop_assert!((0..40).all(|index| left.contains(index) == a.contains(&index)));
        }
    }
}
