//! Which part of a grid this process runs.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Part `index` of `count`, from 1: of a grid's cells in order, every `count`-th.
///
/// ```
/// use lafter::ablate::Shard;
/// let shard: Shard = "2/3".parse()?;
/// assert_eq!((0..7).filter(|cell| shard.holds(*cell)).collect::<Vec<_>>(), [1, 4]);
/// assert!("4/3".parse::<Shard>().is_err());
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: usize,
    pub count: usize,
}

impl Shard {
    /// The whole grid.
    pub const WHOLE: Self = Self { index: 1, count: 1 };

    /// Whether the cell at this place of the grid, from 0, belongs to it.
    pub fn holds(&self, cell: usize) -> bool {
        cell % self.count == self.index - 1
    }

    /// The task of a SLURM array job (`SLURM_ARRAY_TASK_ID`, `…_MIN`, `…_COUNT`), `None` outside of one.
    ///
    /// # Errors
    /// [`Error::Usage`] where the variables contradict each other.
    pub fn from_slurm(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let number = |name: &str| -> Result<Option<usize>> {
            let Some(text) = variable(name) else { return Ok(None) };
            let wrong = || Error::Usage(format!("{name} is {text:?}, not a number: unset it, or give --shard"));
            Ok(Some(text.trim().parse().map_err(|_| wrong())?))
        };
        let Some(id) = number("SLURM_ARRAY_TASK_ID")? else { return Ok(None) };
        let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
        let last = number("SLURM_ARRAY_TASK_MAX")?;
        match number("SLURM_ARRAY_TASK_COUNT")?.or(last.map(|last| (last + 1).saturating_sub(first))) {
            // with a step (--array=0-9:3) ids are not consecutive, and their places unknown
            Some(count) if id >= first && id - first < count && last.is_none_or(|last| last + 1 == first + count) => {
                Ok(Some(Self { index: id - first + 1, count }))
            }
            _ => Err(Error::Usage(format!("the array task {id} has no place among consecutive ids from {first}: give --shard i/n"))),
        }
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(index, count)| Some((index.trim().parse().ok()?, count.trim().parse().ok()?)));
        match parts {
            Some((index, count)) if index >= 1 && index <= count => Ok(Self { index, count }),
            _ => Err(Error::Usage(format!("{text:?} is no shard: write i/n with i from 1 to n, as in 2/8"))),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slurm(variables: &[(&str, &str)]) -> Result<Option<Shard>> {
        Shard::from_slurm(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn shards_part_the_grid() {
        for count in 1..5 {
            let holders = |cell| (1..=count).filter(|index| Shard { index: *index, count }.holds(cell)).count();
            assert!((0..20).all(|cell| holders(cell) == 1));
        }
    }

    #[test]
    fn an_array_task_is_a_shard() {
        assert_eq!(slurm(&[]).unwrap(), None);
        let task =
            [("SLURM_ARRAY_TASK_ID", "5"), ("SLURM_ARRAY_TASK_MIN", "4"), ("SLURM_ARRAY_TASK_MAX", "7"), ("SLURM_ARRAY_TASK_COUNT", "4")];
        assert_eq!(slurm(&task).unwrap(), Some(Shard { index: 2, count: 4 }));
        let stepped =
            [("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_ARRAY_TASK_MIN", "0"), ("SLURM_ARRAY_TASK_MAX", "9"), ("SLURM_ARRAY_TASK_COUNT", "4")];
        assert!(slurm(&stepped).unwrap_err().to_string().contains("--shard"));
        assert!(slurm(&[("SLURM_ARRAY_TASK_ID", "x")]).is_err());
    }
}
