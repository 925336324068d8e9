//! The kinds of TIFF that `image` does not read, and Pillow does: palettes, gray with alpha.

use std::io::Cursor;

use image::RgbImage;
use image::metadata::Orientation;
use tiff::decoder::{Decoder, DecodingResult, Limits};

/// Tags of a TIFF's directory.
const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const ORIENTATION: u16 = 274;
const SAMPLES: u16 = 277;
const PLANAR: u16 = 284;
const COLOR_MAP: u16 = 320;
const SAMPLE_FORMAT: u16 = 339;

/// What must be done with a TIFF.
pub(super) enum Plan {
    /// Palette indices of 8 bits: the picture's bytes with "gray" in place of "palette", and the colors.
    Palette { as_gray: Vec<u8>, colors: Vec<[u8; 3]> },
    /// Gray of 8 bits and further samples, alpha first among them.
    GrayAnd { samples: usize },
    /// What would come out wrong, and why. Of floating-point samples nobody knows which are black and white.
    Refused(&'static str),
}

/// `None` for what is not a TIFF, or one that needs nothing special.
pub(super) fn plan(bytes: &[u8]) -> Option<Plan> {
    let directory = Directory::of(bytes)?;
    if directory.value(SAMPLE_FORMAT).is_some_and(|(format, _)| format == 3) {
        return Some(Plan::Refused("its samples are floating-point numbers"));
    }
    let (photometric, at) = directory.value(PHOTOMETRIC)?;
    let (bits, _) = directory.value(BITS)?;
    let samples = directory.value(SAMPLES).map_or(1, |(samples, _)| samples);
    let chunky = directory.value(PLANAR).is_none_or(|(planar, _)| planar == 1);
    match photometric {
        3 if bits == 8 && samples == 1 => {
            let colors = directory.colors()?;
            let mut as_gray = bytes.to_vec();
            as_gray.get_mut(at..at + 2)?.copy_from_slice(&directory.endian.bytes(1));
            Some(Plan::Palette { as_gray, colors })
        }
        1 if samples >= 2 && matches!(directory.value(COMPRESSION), Some((6 | 7, _))) => Some(Plan::Refused("gray with alpha in JPEG")),
        1 if bits == 8 && samples >= 2 && chunky => Some(Plan::GrayAnd { samples: usize::from(samples) }),
        _ => None,
    }
}

/// How the picture must be turned to stand upright.
pub(super) fn orientation(bytes: &[u8]) -> Option<Orientation> {
    let (value, _) = Directory::of(bytes)?.value(ORIENTATION)?;
    Orientation::from_exif(u8::try_from(value).ok()?)
}

/// Width and height that the first directory claims.
pub(super) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let directory = Directory::of(bytes)?;
    Some((directory.long(WIDTH)?, directory.long(HEIGHT)?))
}

impl Plan {
    /// Decodes to RGB; the error is one line.
    pub(super) fn decode(self, bytes: &[u8], most_bytes: usize) -> Result<RgbImage, String> {
        let (bytes, colors, samples) = match &self {
            Self::Palette { as_gray, colors } => (as_gray.as_slice(), colors.clone(), 1),
            Self::GrayAnd { samples } => (bytes, (0..=255).map(|gray| [gray; 3]).collect(), *samples),
            Self::Refused(why) => return Err((*why).to_string()),
        };
        let mut limits = Limits::default();
        limits.decoding_buffer_size = most_bytes;
        let line = |e: tiff::TiffError| e.to_string().lines().next().unwrap_or("damaged").to_string();
        let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(line)?.with_limits(limits);
        let (width, height) = decoder.dimensions().map_err(line)?;
        let DecodingResult::U8(values) = decoder.read_image().map_err(line)? else {
            return Err("its samples are not of 8 bits".to_string());
        };
        if values.len() as u64 != u64::from(width) * u64::from(height) * samples as u64 {
            return Err("its pixels are not as many as its size says".to_string());
        }
        let mut pixels = Vec::with_capacity(3 * (values.len() / samples)); // growing, it would take twice that
        for pixel in values.chunks_exact(samples) {
            pixels.extend(colors.get(usize::from(pixel[0])).copied().unwrap_or_default());
        }
        RgbImage::from_raw(width, height, pixels).ok_or_else(|| "its pixels are fewer than its size says".to_string())
    }
}

#[derive(Clone, Copy)]
enum Endian {
    Little,
    Big,
}

impl Endian {
    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let two: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if matches!(self, Self::Little) { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if matches!(self, Self::Little) { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) })
    }

    fn bytes(self, value: u16) -> [u8; 2] {
        if matches!(self, Self::Little) { value.to_le_bytes() } else { value.to_be_bytes() }
    }
}

/// The directory of the first picture.
struct Directory<'a> {
    bytes: &'a [u8],
    endian: Endian,
    /// Where its entries begin.
    start: usize,
    entries: usize,
}

impl<'a> Directory<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let endian = match bytes.get(..4)? {
            b"II\x2a\0" => Endian::Little,
            b"MM\0\x2a" => Endian::Big,
            _ => return None,
        };
        let at = usize::try_from(endian.u32(bytes, 4)?).ok()?;
        let entries = usize::from(endian.u16(bytes, at)?);
        Some(Self { bytes, endian, start: at.checked_add(2)?, entries })
    }

    /// Where an entry stands.
    fn entry(&self, tag: u16) -> Option<usize> {
        (0..self.entries).map(|i| self.start + 12 * i).find(|at| self.endian.u16(self.bytes, *at) == Some(tag))
    }

    /// The first value of an entry of 16-bit numbers, and where the value stands.
    fn value(&self, tag: u16) -> Option<(u16, usize)> {
        let at = self.entry(tag)?;
        let count = self.endian.u32(self.bytes, at + 4)?;
        let place = if count <= 2 { at + 8 } else { usize::try_from(self.endian.u32(self.bytes, at + 8)?).ok()? };
        (self.endian.u16(self.bytes, at + 2)? == 3).then_some((self.endian.u16(self.bytes, place)?, place))
    }

    /// The value of an entry of one 16-bit or 32-bit number.
    fn long(&self, tag: u16) -> Option<u32> {
        let at = self.entry(tag)?;
        match self.endian.u16(self.bytes, at + 2)? {
            3 => self.endian.u16(self.bytes, at + 8).map(u32::from),
            _ => self.endian.u32(self.bytes, at + 8),
        }
    }

    /// 256 colors of 16 bits, all reds first; their high bytes, as Pillow takes them.
    fn colors(&self) -> Option<Vec<[u8; 3]>> {
        let at = self.entry(COLOR_MAP)?;
        let (count, start) = (self.endian.u32(self.bytes, at + 4)?, self.endian.u32(self.bytes, at + 8)?);
        let (count, start) = (usize::try_from(count).ok()? / 3, usize::try_from(start).ok()?);
        let high = |i: usize| self.endian.u16(self.bytes, start.checked_add(2 * i)?).map(|value| (value >> 8) as u8);
        (0..count.min(256)).map(|i| Some([high(i)?, high(count + i)?, high(2 * count + i)?])).collect()
    }
}
