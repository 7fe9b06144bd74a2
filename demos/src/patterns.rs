//! The patterns that come with the demo, as the literature gives them.

use crate::grid::Grid;
use crate::rle;

/// A pattern known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Named {
    /// Five cells, found by Conway in 1969, that settle in generation 1103 with 116 cells, six gliders among them.
    RPentomino,
    /// Seven cells, found by Charles Corderman, that settle in generation 5206 with 633 cells.
    Acorn,
    /// The first gun, found by Bill Gosper in 1970: it emits a glider every 30 generations, for ever.
    GosperGun,
    /// Five cells, found by Richard Guy, that move by one cell down and to the east every four generations.
    Glider,
}

impl Named {
    /// All of them, in the order in which help texts list them.
    pub const ALL: [Self; 4] = [Self::RPentomino, Self::Acorn, Self::GosperGun, Self::Glider];

    /// The name that users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::RPentomino => "r-pentomino",
            Self::Acorn => "acorn",
            Self::GosperGun => "gosper-gun",
            Self::Glider => "glider",
        }
    }

    /// The pattern of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pattern| pattern.name() == name)
    }

    fn file(self) -> &'static str {
        match self {
            Self::RPentomino => "x = 3, y = 3, rule = B3/S23\nb2o$2o$bo!",
            Self::Acorn => "x = 7, y = 3, rule = B3/S23\nbo$3bo$2o2b3o!",
            Self::GosperGun => {
                "x = 36, y = 9, rule = B3/S23\n\
                 24bo$\
                 22bobo$\
                 12b2o6b2o12b2o$\
                 11bo3bo4b2o12b2o$\
                 2o8bo5bo3b2o$\
                 2o8bo3bob2o4bobo$\
                 10bo5bo7bo$\
                 11bo3bo$\
                 12b2o!"
            }
            Self::Glider => "x = 3, y = 3, rule = B3/S23\nbo$2bo$3o!",
        }
    }

    /// The pattern's cells, in the smallest grid that holds them.
    ///
    /// # Panics
    /// Never: a test reads all of them.
    pub fn grid(self) -> Grid {
        rle::parse(self.file().as_bytes()).expect("the patterns in this file are well formed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_and_as_many_cells_as_the_literature_says() {
        for (pattern, cells) in Named::ALL.into_iter().zip([5, 7, 36, 5]) {
            assert_eq!(Named::from_name(pattern.name()), Some(pattern));
            assert_eq!(pattern.grid().population(), cells, "{}", pattern.name());
        }
        assert_eq!(Named::from_name("Glider"), None);
    }
}
