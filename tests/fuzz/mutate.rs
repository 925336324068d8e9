//! From valid files to damaged ones: the same seed gives the same bytes.

use lafter::rng::Rng;
use serde_json::{Value, json};

use crate::containers::{join_safetensors, join_zip, mend_png, split_safetensors, split_zip};

/// What a file is made of: how it can be damaged so that more than its first check sees it.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    Bytes,
    Lines,
    Json,
    /// A JSON value on each line.
    JsonLines,
    Safetensors,
    Zip,
    Png,
}

/// Damaged inputs are cut off here.
const LARGEST: usize = 1 << 20;

/// One damaged input, made of one to eight changes of one of `seeds`.
pub fn mutate(rng: &mut Rng, seeds: &[Vec<u8>], form: Form) -> Vec<u8> {
    let mut bytes = seeds[rng.below(seeds.len())].clone();
    let mut changes = 1;
    while changes < 8 && rng.chance(0.45) {
        changes += 1;
    }
    let inside = rng.chance(0.7);
    for _ in 0..changes {
        bytes = if inside { change_inside(rng, bytes, form, seeds) } else { change_bytes(rng, bytes, seeds) };
        bytes.truncate(LARGEST);
    }
    bytes
}

/// A change that keeps the container whole.
fn change_inside(rng: &mut Rng, bytes: Vec<u8>, form: Form, seeds: &[Vec<u8>]) -> Vec<u8> {
    match form {
        Form::Bytes => change_bytes(rng, bytes, seeds),
        Form::Lines => change_lines(rng, &bytes),
        Form::Json => change_json(rng, bytes),
        Form::JsonLines => {
            let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            if rng.chance(0.3) {
                return change_lines(rng, &bytes);
            }
            let at = rng.below(lines.len());
            lines[at] = change_json(rng, std::mem::take(&mut lines[at]));
            lines.join(&b'\n')
        }
        Form::Safetensors => match split_safetensors(&bytes) {
            Some((header, values)) if rng.chance(0.6) => join_safetensors(&change_json(rng, header.to_vec()), values),
            Some((header, values)) => join_safetensors(header, &change_bytes(rng, values.to_vec(), &[])),
            None => change_bytes(rng, bytes, seeds),
        },
        Form::Zip => match split_zip(&bytes) {
            Some(mut entries) if !entries.is_empty() => {
                // the pickle, most of the time
                let pickle = entries.iter().position(|(name, _)| name.ends_with(b"data.pkl"));
                let at = pickle.filter(|_| rng.chance(0.7)).unwrap_or_else(|| rng.below(entries.len()));
                match rng.below(12) {
                    0 => drop(entries.remove(at)),
                    1 => entries[at].0 = change_bytes(rng, std::mem::take(&mut entries[at].0), &[]),
                    _ => entries[at].1 = change_bytes(rng, std::mem::take(&mut entries[at].1), &[]),
                }
                join_zip(&entries)
            }
            _ => change_bytes(rng, bytes, seeds),
        },
        Form::Png => {
            let mut bytes = change_bytes(rng, bytes, seeds);
            mend_png(&mut bytes, &[]);
            bytes
        }
    }
}

/// Flips, sets, cuts, copies, joins, and numbers where a length may stand.
fn change_bytes(rng: &mut Rng, mut bytes: Vec<u8>, seeds: &[Vec<u8>]) -> Vec<u8> {
    if bytes.is_empty() {
        return vec![rng.next_u64() as u8];
    }
    let n = bytes.len();
    // headers stand in front, so half of the changes do
    let at = if rng.chance(0.5) { rng.below(n) } else { rng.below(n.min(128)) };
    let end = at + 1 + rng.below((n - at).min(64));
    match rng.below(11) {
        0 | 1 => bytes[at] ^= 1 << rng.below(8),
        2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'{', b'"', b'\n', rng.next_u64() as u8][rng.below(9)],
        3..=5 => set_number(rng, &mut bytes, at),
        6 => bytes.truncate(at),
        7 => drop(bytes.drain(at..end)),
        8 => {
            let part = bytes[at..end].repeat(if rng.chance(0.9) { 1 } else { 1 + rng.below(2000) });
            drop(bytes.splice(at..at, part));
        }
        9 => bytes[at..end].fill(if rng.chance(0.5) { 0 } else { 0xff }),
        _ => {
            let other = if seeds.is_empty() { &bytes } else { &seeds[rng.below(seeds.len())] };
            let tail = other[rng.below(other.len().max(1)).min(other.len())..].to_vec();
            bytes.truncate(at);
            bytes.extend(tail);
        }
    }
    bytes
}

/// An integer of 1 to 8 bytes of either order: nothing, one, the largest, near what stood there, near the file's length.
fn set_number(rng: &mut Rng, bytes: &mut [u8], at: usize) {
    let size = [1, 2, 4, 8][rng.below(4)].min(bytes.len() - at);
    let little = rng.chance(0.5);
    let mut field = [0; 8];
    field[..size].copy_from_slice(&bytes[at..at + size]);
    if !little {
        field[..size].reverse();
    }
    let (old, n) = (u64::from_le_bytes(field), bytes.len() as u64);
    let most = u64::MAX >> (64 - 8 * size);
    let new = match rng.below(12) {
        0 => 0,
        1 => 1,
        2 => most,
        3 => most >> 1,
        4 => (most >> 1) + 1,
        5 => n,
        6 => n - at as u64,
        7 => old.wrapping_add(1),
        8 => old.wrapping_sub(1),
        9 => old.wrapping_mul(2),
        10 => 1 << rng.below(8 * size),
        _ => old.wrapping_mul(1 + rng.below(1000) as u64),
    };
    let mut field = new.to_le_bytes();
    if !little {
        field[..size].reverse();
    }
    bytes[at..at + size].copy_from_slice(&field[..size]);
}

fn change_lines(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let (at, other) = (rng.below(lines.len()), rng.below(lines.len()));
    match rng.below(9) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(other, lines[at].clone()),
        2 => lines.swap(at, other),
        3 => lines[at] = [lines[at].clone(), lines[other].clone()].concat(),
        4 => lines[at] = change_bytes(rng, std::mem::take(&mut lines[at]), &[]),
        5 => lines[at] = lines[at].repeat([0, 2, 1000][rng.below(3)]),
        6 => lines[at].extend(text(rng).as_bytes()),
        7 => return lines.join(if rng.chance(0.5) { &b"\r\n"[..] } else { b"\r" }),
        _ => {
            let cut = rng.below(lines[at].len() + 1);
            let rest = lines[at].split_off(cut);
            lines.insert(at + 1, [text(rng).as_bytes(), &rest].concat());
        }
    }
    lines.join(&b'\n')
}

/// Texts that readers stumble over.
fn text(rng: &mut Rng) -> String {
    let long = "a".repeat(100_000);
    #[rustfmt::skip]
    let texts = [
        "", " ", "\t", "\"", ",", "\\", "{}", "{", "}", "\0", "\u{1b}[31m", "\u{feff}", "é", "e\u{301}", "\u{202e}", "日本",
        "a\nb", "a\r\nb", "../../x", "/etc/passwd", "0", "-1", "NaN", "1e999", "n01440764 ", "<|endoftext|>", "</w>", "<think>",
        "#", "null", &long,
    ];
    texts[rng.below(texts.len())].to_string()
}

/// Stands in a JSON text for what serde's values cannot hold.
const PLACE: &str = "\u{1}";

/// A change of one value, key or element anywhere in a JSON text, also in one that a string holds.
fn change_json(rng: &mut Rng, bytes: Vec<u8>) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(&bytes) else { return change_bytes(rng, bytes, &[]) };
    change_value(rng, &mut value);
    let text = value.to_string();
    if !text.contains("\\u0001") {
        return text.into_bytes();
    }
    let deep = "[".repeat(2000) + &"]".repeat(2000);
    let odd = ["NaN", "1e999", "-0", "1e-400", "18446744073709551616", "tru", &deep, "{\"a\":1,\"a\":2}"][rng.below(8)];
    text.replace("\"\\u0001\"", odd).into_bytes()
}

fn change_value(rng: &mut Rng, value: &mut Value) {
    match value {
        Value::Object(map) if !map.is_empty() && rng.chance(0.85) => {
            let key = map.keys().nth(rng.below(map.len())).cloned().unwrap_or_default();
            let other = map.values().nth(rng.below(map.len())).cloned().unwrap_or_default();
            match rng.below(10) {
                0 => drop(map.shift_remove(&key)),
                1 => drop(map.insert(key, other)),
                2 => {
                    let moved = map.shift_remove(&key).unwrap_or_default();
                    map.insert(text(rng) + &key, moved);
                }
                3 => drop(map.insert(text(rng), other)),
                _ => change_value(rng, &mut map[&key]),
            }
        }
        Value::Array(list) if !list.is_empty() && rng.chance(0.85) => {
            let (at, other) = (rng.below(list.len()), rng.below(list.len()));
            match rng.below(9) {
                0 => drop(list.remove(at)),
                1 => list.swap(at, other),
                2 => list.insert(at, list[other].clone()),
                3 if rng.chance(0.2) => *list = std::iter::repeat_n(list[at].clone(), 1000).collect(),
                _ => change_value(rng, &mut list[at]),
            }
        }
        Value::String(inner) if rng.chance(0.7) => match serde_json::from_str::<Value>(inner) {
            Ok(mut nested @ (Value::Object(_) | Value::Array(_))) => {
                change_value(rng, &mut nested);
                *inner = nested.to_string().replace(PLACE, "?");
            }
            _ => {
                let cut = inner.char_indices().map(|(at, _)| at).nth(rng.below(inner.chars().count() + 1)).unwrap_or(inner.len());
                let rest = inner.split_off(cut);
                *inner += &text(rng);
                *inner += if rng.chance(0.7) { &rest } else { "" };
            }
        },
        Value::Number(number) if rng.chance(0.7) => {
            let old = number.as_f64().unwrap_or(0.0);
            let whole = number.as_i64();
            let new = match rng.below(6) {
                0 => json!(whole.map_or(json!(old + 0.5), |old| json!(old.wrapping_add(1)))),
                1 => json!(whole.map_or(json!(old * 2.0), |old| json!(old.wrapping_mul(2)))),
                2 => whole.map_or(json!(-old), |old| json!(old.wrapping_neg())),
                3 => whole.map_or(json!(old * 1e30), |old| json!(old.wrapping_mul(1000))),
                4 => json!(whole.map_or(old, |old| old as f64) + 0.25),
                _ => json!(old.to_string()),
            };
            *value = new;
        }
        _ => {
            #[rustfmt::skip]
            let values = [
                json!(null), json!(true), json!(false), json!(0), json!(1), json!(-1), json!(3), json!(65_535), json!(1_000_000),
                json!(u32::MAX), json!(i64::MAX), json!(u64::MAX), json!(1e308), json!(3.4e38), json!(1e-45), json!(0.5), json!(-0.5),
                json!([]), json!({}), json!([[]]), json!({"a": 1}), json!(PLACE), json!(text(rng)),
            ];
            *value = values[rng.below(values.len())].clone();
        }
    }
}
