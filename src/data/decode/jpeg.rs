//! JPEGs that end early: the decoder fills in what is missing and says nothing.

use image::{DynamicImage, ImageFormat, ImageReader};
use std::io::Cursor;

use crate::catch_panic::catch_panic;
use crate::rng::Rng;

const MARKER: u8 = 0xff;
const END: [u8; 2] = [MARKER, 0xd9];

/// How a file ends.
pub(super) enum Ending {
    /// With its end marker; or it is not a JPEG.
    Whole,
    /// Without the marker, but with every pixel: the file with the marker added.
    Mended(Vec<u8>),
    /// Before its pixels do.
    Cut,
}

/// Looks for the end marker, and if there is none, whether any pixel is missing.
pub(super) fn ending(bytes: &[u8]) -> Ending {
    match Scan::of(bytes) {
        None => Ending::Whole,
        Some(Scan { sequential: true, scans: 1 }) if holds_every_pixel(bytes) => Ending::Mended([data(bytes), &END].concat()),
        Some(_) => Ending::Cut,
    }
}

/// What stands in a JPEG without an end marker.
struct Scan {
    /// One pass over the picture can hold all of it; in a progressive file it is never known whether another should follow.
    sequential: bool,
    scans: usize,
}

impl Scan {
    /// `None` for a file with its end marker.
    fn of(bytes: &[u8]) -> Option<Self> {
        if !bytes.starts_with(&[MARKER, 0xd8]) {
            return None;
        }
        let (mut at, mut found) = (2, Self { sequential: false, scans: 0 });
        while let Some(&[first, kind]) = bytes.get(at..at + 2) {
            at += match (first, kind) {
                (MARKER, 0xd9) => return None,
                // coded data or what stands between segments; fill bytes and markers without a length
                (..MARKER, _) => bytes[at..].iter().position(|byte| *byte == MARKER).unwrap_or(bytes.len()),
                (MARKER, 0x00 | 0x01 | 0xd0..=0xd8 | MARKER) => 1,
                // a segment: the end marker of an embedded thumbnail does not count
                (MARKER, kind) => {
                    found.sequential |= matches!(kind, 0xc0 | 0xc1);
                    found.scans += usize::from(kind == 0xda);
                    match bytes.get(at + 2..at + 4) {
                        Some(&[high, low]) => 2 + usize::from(u16::from_be_bytes([high, low])),
                        _ => break,
                    }
                }
            };
        }
        Some(found)
    }
}

/// The file less what pads its end: half a marker, or the zeros of a download that was given its room first.
fn data(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0 && *byte != MARKER).map_or(0, |at| at + 1);
    &bytes[..end]
}

/// Continuations that are tried: some agree by chance, where a few bits are missing.
const CONTINUATIONS: u64 = 24;

/// True if the picture is the same whatever coded data follow, or none: then nothing of it is missing. If something is, each
/// continuation fills it differently.
fn holds_every_pixel(bytes: &[u8]) -> bool {
    let mut pictures = (0..=CONTINUATIONS).map(|seed| {
        let mut rng = Rng::new(seed);
        let noise = (0..if seed == 0 { 0 } else { 512 }).map(|_| (rng.next_u64() as u8).min(0xfe)); // no marker
        let file: Vec<u8> = data(bytes).iter().copied().chain(noise).chain(END).collect();
        let reader = ImageReader::with_format(Cursor::new(file), ImageFormat::Jpeg);
        catch_panic(|| reader.decode().ok()).flatten().map(DynamicImage::into_bytes)
    });
    let first = pictures.next().flatten();
    first.is_some() && pictures.all(|picture| picture == first)
}
