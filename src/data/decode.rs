//! From a file's bytes to 8-bit RGB, upright, whatever its format, size and mode.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};

use crate::catch_panic::catch_panic;
use crate::error::{Error, Result};

/// Larger pictures are refused: a small file can claim any size (Pillow's limit for the same reason).
pub const MAX_PIXELS: u64 = 178_956_970;

/// Decodes JPEG, PNG, GIF (first frame), WebP, BMP, TIFF or PNM; `name` is only for messages.
///
/// - The EXIF orientation is applied, so the picture is upright.
/// - Alpha is dropped, not blended; grey and palette become RGB: as Pillow's `convert("RGB")`.
/// - 16-bit values v become v/257 rounded, so that black and white stay so. (Pillow cuts 16-bit grey off at 255, which
///   turns nearly everything white, and drops the low byte of 16-bit colour.)
/// - CMYK and YCCK JPEGs are read as inverted, as Adobe writes them, and multiplied out without a colour profile: as Pillow.
///
/// # Errors
/// [`Error::Image`] for bytes in none of these formats, damaged or truncated ones, and pictures above [`MAX_PIXELS`].
///
/// ```
/// let image = lafter::data::decode::decode(b"P3 2 1 255  255 0 0  9 8 7", "two.ppm")?;
/// assert_eq!(image.get_pixel(1, 0).0, [9, 8, 7]);
/// assert!(lafter::data::decode::decode(b"hello", "note.txt").unwrap_err().to_string().starts_with("note.txt: "));
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn decode(bytes: &[u8], name: &str) -> Result<RgbImage> {
    let refuse = |what: String| Error::Image(format!("{name}: {what}"));
    let read = |error: ImageError| refuse(explain(&error));
    if bytes.is_empty() {
        return Err(refuse("the file is empty".into()));
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| refuse(error.to_string()))?;
    if reader.format().is_none() {
        return Err(refuse("not an image in a format known here (JPEG, PNG, GIF, WebP, BMP, TIFF, PNM)".into()));
    }
    if cut_short(bytes) {
        return Err(refuse("the file is cut short: copy or download it again".into()));
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(8 * MAX_PIXELS); // 16-bit RGBA
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(read)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(refuse(format!("{width} x {height} pixels; from 1 to {MAX_PIXELS} in all can be read")));
    }
    // metadata that cannot be read is no reason to refuse the pixels
    let orientation = decoder.orientation().ok();
    let decoded =
        catch_panic(|| DynamicImage::from_decoder(decoder)).ok_or_else(|| refuse("cannot be decoded (the decoder gave up)".into()))?;
    let mut image = DynamicImage::ImageRgb8(decoded.map_err(read)?.into_rgb8());
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    Ok(image.into_rgb8())
}

/// [`decode`] on the contents of a file.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read; else as [`decode`].
pub fn decode_file(path: impl AsRef<Path>) -> Result<RgbImage> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    decode(&bytes, &path.display().to_string())
}

fn explain(error: &ImageError) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or("damaged image");
    match error {
        ImageError::Limits(_) => format!("too large to decode ({line})"),
        _ => format!("cannot be decoded ({line})"),
    }
}

/// True for a JPEG without its end marker: the decoder would fill in what is missing and say nothing.
fn cut_short(bytes: &[u8]) -> bool {
    const MARKER: u8 = 0xff;
    if !bytes.starts_with(&[MARKER, 0xd8]) {
        return false;
    }
    let mut at = 2;
    while let Some(&[first, kind]) = bytes.get(at..at + 2) {
        at += match (first, kind) {
            (MARKER, 0xd9) => return false, // end of image
            // coded data or what stands between segments; fill bytes and markers without a length
            (..MARKER, _) => bytes[at..].iter().position(|byte| *byte == MARKER).unwrap_or(bytes.len()),
            (MARKER, 0x00 | 0x01 | 0xd0..=0xd8 | MARKER) => 1,
            // a segment: the end marker of an embedded thumbnail does not count
            (MARKER, _) => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return true,
            },
        }
    }
    true
}
