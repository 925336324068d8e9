//! What ranks tell each other: tensors with a row for each item, and words.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempPath;

use super::Ranks;
use crate::error::{Error, Result};
use crate::progress;

/// Tensors by name.
pub(crate) type Named = Vec<(String, Tensor)>;

/// The rows of all ranks for each name, one rank's after the other's: `[n, ..]` of each → `[Σ n, ..]`, on the device. A rank without
/// rows gives no tensor.
///
/// # Errors
/// If a rank is gone, or the shapes of two ranks do not fit (Candle's).
pub(crate) fn rows(ranks: &dyn Ranks, own: Named, device: &Device) -> Result<HashMap<String, Tensor>> {
    if ranks.size() == 1 {
        return Ok(own.into_iter().collect());
    }
    let all = ranks.all_gather(&encoded(own)?)?;
    concatenated(all.iter().map(|bytes| decoded(bytes, device)).collect::<Result<Vec<_>>>()?)
}

/// The rows of several for each name, one after the other's.
///
/// # Errors
/// If two shapes do not fit (Candle's).
pub(crate) fn concatenated(parts: impl IntoIterator<Item = Named>) -> Result<HashMap<String, Tensor>> {
    let mut by_name: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
    for (name, tensor) in parts.into_iter().flatten() {
        by_name.entry(name).or_default().push(tensor);
    }
    let joined = by_name.into_iter().map(|(name, parts)| match &parts[..] {
        [only] => Ok((name, only.clone())),
        parts => Ok((name, Tensor::cat(parts, 0)?)),
    });
    joined.collect()
}

/// The values of each rank, in their order.
///
/// # Errors
/// If a rank is gone.
pub(crate) fn told<T: Serialize + DeserializeOwned>(ranks: &dyn Ranks, own: &T) -> Result<Vec<T>> {
    let broken = |e: serde_json::Error| Error::Data(format!("a message between processes cannot be read: {e}"));
    let all = ranks.all_gather(&serde_json::to_vec(own).map_err(broken)?)?;
    all.iter().map(|bytes| serde_json::from_slice(bytes).map_err(broken)).collect()
}

/// Refuses processes that would each do something else; they could not tell, for each sees its own rows only. `own` says by name what all
/// must have alike. Made only where there are several.
///
/// # Errors
/// [`Error::Usage`] with the name of what differs; if a rank is gone.
pub fn agree(ranks: &dyn Ranks, own: impl FnOnce() -> Result<Vec<(&'static str, String)>>) -> Result<()> {
    if ranks.size() == 1 {
        return Ok(());
    }
    let isa = format!("{:?}", lafter_fast::Isa::best());
    let always = [
        ("version of the program", env!("CARGO_PKG_VERSION").to_string()),
        ("vector instructions (LAFTER_MAX_ISA=avx2 on all makes them equal)", isa),
    ];
    let own: Vec<(String, String)> = always.into_iter().chain(own()?).map(|(what, value)| (what.to_string(), value)).collect();
    let all = told(ranks, &own)?;
    for (rank, words) in all.iter().enumerate() {
        if let Some(((what, _), _)) = words.iter().zip(&all[0]).find(|(word, first)| word != first) {
            return Err(Error::Usage(format!("process {rank} has other {what} than the first: all must have the same")));
        }
    }
    Ok(())
}

/// One tensor of each rank that has one, in their order, on the device.
///
/// # Errors
/// If a rank is gone.
pub(crate) fn one_each(ranks: &dyn Ranks, own: Option<Tensor>, device: &Device) -> Result<Vec<Tensor>> {
    if ranks.size() == 1 {
        return Ok(own.into_iter().collect());
    }
    let own = own.into_iter().map(|tensor| ("one".to_string(), tensor)).collect();
    let all = ranks.all_gather(&encoded(own)?)?;
    let each = all.iter().map(|bytes| Ok(decoded(bytes, device)?.into_iter().map(|(_, tensor)| tensor)));
    Ok(each.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Whether it is so on any of the ranks.
///
/// # Errors
/// If a rank is gone.
pub(crate) fn any(ranks: &dyn Ranks, own: bool) -> Result<bool> {
    Ok(if ranks.size() == 1 { own } else { told(ranks, &own)?.contains(&true) })
}

/// Stops a loop of all ranks after an interrupt of one; all call it once per step. `what` is added to the message.
///
/// # Errors
/// [`Error::Interrupted`] once one was interrupted; if a rank is gone.
pub(crate) fn check_interrupt(ranks: &dyn Ranks, what: &str) -> Result<()> {
    match any(ranks, progress::interrupted())? {
        true => Err(Error::Interrupted(format!("interrupted: {what}"))),
        false => Ok(()),
    }
}

/// What the first rank makes, on all of them.
///
/// # Errors
/// Those of `make` on the first rank; if a rank is gone.
pub(crate) fn of_first(ranks: &dyn Ranks, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let own = if ranks.rank() == 0 { make()? } else { Vec::new() };
    if ranks.size() == 1 {
        return Ok(own);
    }
    Ok(ranks.all_gather(&own)?.swap_remove(0))
}

/// A copy of a file of the first rank on each, whose disks may be other ones; `None` if the first has no such file.
///
/// # Errors
/// [`Error::Io`] if it cannot be read or written; if a rank is gone.
pub(crate) fn file_of_first(ranks: &dyn Ranks, path: Option<&Path>) -> Result<Option<TempPath>> {
    let temporary = |e| Error::io(std::env::temp_dir(), e);
    let bytes = of_first(ranks, || match path.filter(|path| path.exists()) {
        Some(path) => std::fs::read(path).map_err(|e| Error::io(path, e)),
        None => Ok(Vec::new()),
    })?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut file = tempfile::NamedTempFile::new().map_err(temporary)?;
    file.write_all(&bytes).map_err(temporary)?;
    Ok(Some(file.into_temp_path()))
}

fn encoded(tensors: Named) -> Result<Vec<u8>> {
    let on_host = tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?.contiguous()?)));
    let on_host = on_host.collect::<Result<Named>>()?;
    safetensors::serialize(on_host.iter().map(|(name, tensor)| (name, tensor)), None)
        .map_err(|e| Error::Data(format!("tensors cannot be told to other processes: {e}")))
}

fn decoded(bytes: &[u8], device: &Device) -> Result<Named> {
    Ok(candle_core::safetensors::load_buffer(bytes, device)?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::super::threads;
    use super::*;
    use crate::ranks::{Alone, own};

    #[test]
    fn rows_come_in_the_order_of_the_ranks_and_a_rank_may_have_none() {
        let seen = threads::run(3, |ranks| {
            let rank = ranks.rank() as u32;
            let rows_of = |n: usize| Tensor::full(rank, (n, 2), &Device::Cpu).unwrap();
            let own = if rank == 1 { Vec::new() } else { vec![("a".to_string(), rows_of(rank as usize + 1))] };
            let all = rows(ranks, own, &Device::Cpu).unwrap();
            let first = of_first(ranks, || Ok(vec![7])).unwrap();
            (all["a"].to_vec2::<u32>().unwrap(), told(ranks, &rank).unwrap(), first)
        });
        for (rows, told, first) in seen {
            assert_eq!((rows, told, first), (vec![vec![0, 0], vec![2, 2], vec![2, 2], vec![2, 2]], vec![0, 1, 2], vec![7]));
        }
    }

    #[test]
    fn those_that_differ_are_named_to_all() {
        let said = threads::run(3, |ranks| {
            let own = |weights: usize| move || Ok(vec![("model", "m".to_string()), ("weights", weights.to_string())]);
            agree(ranks, own(7)).unwrap();
            agree(ranks, own(ranks.rank() / 2)).unwrap_err().to_string()
        });
        assert!(said.iter().all(|error| error.contains("process 2 has other weights than the first")), "{said:?}");
        agree(&Alone, || panic!("asked for nobody")).unwrap();
    }

    #[test]
    fn every_item_is_one_rank_s_and_the_first_has_some() {
        for (n, size) in [(0, 2), (1, 3), (2, 3), (50, 3), (7, 7), (8, 7)] {
            let parts = threads::run(size, |ranks| own(n, ranks));
            assert!(parts[0].len() == n.div_ceil(size) && parts.iter().all(|part| part.len() + 1 >= n.div_ceil(size)), "{parts:?}");
            assert_eq!(parts.into_iter().flatten().collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
        }
        let tensor = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(rows(&Alone, vec![("a".into(), tensor)], &Device::Cpu).unwrap()["a"].dims(), [2, 3]);
    }

    #[test]
    fn a_rank_that_leaves_is_an_error_for_the_others() {
        let results = threads::run(2, |ranks| if ranks.rank() == 1 { Ok(Vec::new()) } else { told(ranks, &0) });
        let error = results[0].as_ref().unwrap_err().to_string();
        assert!(error.contains("gone") && results[1].is_ok(), "{error}");
    }
}
