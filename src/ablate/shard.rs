//! Which part of a grid this process runs.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Part `index` of `count`, counted from 1: every `count`-th of a grid's cells.
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
    /// Which part, 1 to `count`.
    pub index: usize,
    /// How many parts the grid is cut into.
    pub count: usize,
}

impl Shard {
    /// The whole grid.
    pub const WHOLE: Self = Self { index: 1, count: 1 };

    /// Whether the cell at this place of the grid, from 0, belongs to it.
    pub fn holds(&self, cell: usize) -> bool {
        cell % self.count.max(1) + 1 == self.index
    }

    /// The task of a SLURM array job (`SLURM_ARRAY_TASK_ID`, `…_MIN`, `…_MAX`, `…_COUNT`, `…_STEP`), whatever its first index
    /// (`--array=0-3`, `--array=1-4`) and step (`--array=0-9:3`); `None` outside of one.
    ///
    /// # Errors
    /// [`Error::Usage`] if the variables contradict each other, or ids are a list (`--array=1,3,7`), of which SLURM tells
    /// neither the members nor a task's place.
    pub fn from_slurm(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let number = |name: &str| -> Result<Option<usize>> {
            let Some(text) = variable(name) else { return Ok(None) };
            let wrong = || Error::Usage(format!("{name} is {text:?}, not a number: unset it, or give --shard"));
            Ok(Some(text.trim().parse().map_err(|_| wrong())?))
        };
        let Some(id) = number("SLURM_ARRAY_TASK_ID")? else { return Ok(None) };
        let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
        let last = number("SLURM_ARRAY_TASK_MAX")?;
        let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
        let count = number("SLURM_ARRAY_TASK_COUNT")?.or(last.map(|last| last.saturating_sub(first) / step + 1)).unwrap_or(0);
        let even = last.is_none_or(|last| first.checked_add(count.saturating_sub(1).saturating_mul(step)) == Some(last));
        match id.checked_sub(first) {
            Some(past) if even && past % step == 0 && past / step < count => Ok(Some(Self { index: past / step + 1, count })),
            _ => Err(Error::Usage(format!(
                "the place of array task {id} is unknown: submit a range (as in --array=0-3), or give --shard i/n"
            ))),
        }
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(index, count)| Some((index.trim().parse().ok()?, count.trim().parse().ok()?)));
        match parts {
            Some((index, count)) if index >= 1 && index <= count => Ok(Self { index, count }),
            _ => Err(Error::Usage(format!("{text:?} is not a shard: write i/n with i from 1 to n, as in 2/8"))),
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
        // as Slurm 22.05 sets them: id, first, last, count, step
        let of = |numbers: [usize; 5]| {
            let names = ["ID", "MIN", "MAX", "COUNT", "STEP"];
            Shard::from_slurm(|name| Some(numbers[names.iter().position(|end| name.ends_with(end))?].to_string()))
        };
        for (numbers, shard) in [([0, 0, 3, 4, 1], "1/4"), ([4, 1, 4, 4, 1], "4/4"), ([6, 0, 9, 4, 3], "3/4"), ([5, 5, 5, 1, 1], "1/1")] {
            assert_eq!(of(numbers).unwrap(), Some(shard.parse().unwrap()));
        }
        // --array=1,3,7 and --array=0-2,5-7
        for numbers in [[3, 1, 7, 3, 1], [5, 0, 7, 6, 1], [3, 0, 9, 4, 2], [2, 4, 7, 4, 1]] {
            assert!(of(numbers).unwrap_err().to_string().contains("--array=0-3"));
        }
        assert!(slurm(&[("SLURM_ARRAY_TASK_ID", "x")]).is_err());
    }
}
