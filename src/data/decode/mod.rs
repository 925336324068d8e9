//! From a file's bytes to 8-bit RGB, upright, whatever its format, size and mode.

mod jpeg;
mod tiff;

use std::borrow::Cow;
use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};

use crate::catch_panic::catch_panic;
use crate::error::{Error, Result, path_text};

/// Larger pictures are refused: a small file can claim any size (Pillow's limit for the same reason).
pub const MAX_PIXELS: u64 = 178_956_970;

/// Bytes that the pixels of one picture may take as they are decoded: [`MAX_PIXELS`] in RGB, fewer with alpha or 16 bits.
pub const MAX_BYTES: u64 = 3 * MAX_PIXELS;

/// No format packs more pixels than this into a byte of a picture that shows anything (GIF: some 2,700; PNG of one bit a
/// pixel: 8,256). Small pictures are not asked.
const PIXELS_PER_BYTE: u64 = 20_000;
const SMALL_PIXELS: u64 = 1 << 22;

/// Decodes JPEG, PNG, GIF (first frame), WebP, BMP, TIFF or PNM; `name` is only for messages.
///
/// - The EXIF orientation is applied, so the picture is upright.
/// - Alpha is dropped, not blended; gray and palette become RGB: as Pillow's `convert("RGB")`.
/// - 16-bit values v become v/257 rounded, so that black and white stay so. (Pillow cuts 16-bit gray off at 255, which
///   turns nearly everything white, and drops the low byte of 16-bit color.)
/// - A JPEG that lacks its end marker is read if none of its pixels is missing.
/// - CMYK and YCCK JPEGs are read as inverted, as Adobe writes them, and multiplied out without a color profile: as Pillow.
///
/// # Errors
/// [`Error::Image`] for bytes in none of these formats, damaged or truncated ones, kinds that are not read (TIFF of floating-point
/// numbers, YCbCr, LZMA), and pictures above [`MAX_PIXELS`] or [`MAX_BYTES`], or that claim more pixels than their bytes can hold.
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
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| refuse(error.to_string()))?;
    if reader.format().is_none() {
        return Err(refuse("not an image in a format known here (JPEG, PNG, GIF, WebP, BMP, TIFF, PNM)".into()));
    }
    let bytes: Cow<[u8]> = match jpeg::ending(bytes) {
        jpeg::Ending::Whole => bytes.into(),
        jpeg::Ending::Mended(bytes) => bytes.into(),
        jpeg::Ending::Cut => return Err(refuse("the file is cut short: copy or download it again".into())),
    };
    if !webp_is_whole(&bytes) {
        return Err(refuse("the file is cut short: copy or download it again".into()));
    }
    if let Some(plan) = tiff::plan(&bytes) {
        let (width, height) = tiff::size(&bytes).unwrap_or_default();
        check_size(width, height, 4, bytes.len()).map_err(refuse)?;
        let decoded = catch_panic(|| plan.decode(&bytes, MAX_BYTES as usize)).unwrap_or_else(|| Err("the decoder gave up".to_string()));
        let decoded = decoded.map_err(|fault| refuse(format!("cannot be decoded ({fault}): {CONVERT}")))?;
        return Ok(upright(decoded, tiff::orientation(&bytes)));
    }
    let mut reader = ImageReader::new(Cursor::new(&*bytes)).with_guessed_format().map_err(|error| refuse(error.to_string()))?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(2 * MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(read)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.color_type().bytes_per_pixel().into(), bytes.len()).map_err(refuse)?;
    // metadata that cannot be read is not a reason to refuse the pixels
    let orientation = decoder.orientation().ok();
    let decoded =
        catch_panic(|| DynamicImage::from_decoder(decoder)).ok_or_else(|| refuse("cannot be decoded (the decoder gave up)".into()))?;
    Ok(upright(decoded.map_err(read)?.into_rgb8(), orientation))
}

/// False if a part of a WebP claims more bytes than the file has: its decoder would take that much memory first.
fn webp_is_whole(bytes: &[u8]) -> bool {
    let number = |at: usize| bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(|four| u32::from_le_bytes(four) as usize);
    let (true, Some(b"WEBP"), Some(size)) = (bytes.starts_with(b"RIFF"), bytes.get(8..12), number(4)) else { return true };
    let end = bytes.len().min(size.saturating_add(8));
    let mut at = 12;
    while at + 8 <= end {
        let Some(length) = number(at + 4) else { return true };
        if length > bytes.len() - at - 8 {
            return false;
        }
        at += 8 + length + length % 2;
    }
    true
}

fn upright(picture: RgbImage, orientation: Option<Orientation>) -> RgbImage {
    let mut image = DynamicImage::ImageRgb8(picture);
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    image.into_rgb8()
}

/// [`decode`] on the contents of a file.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; else as [`decode`].
pub fn decode_file(path: impl AsRef<Path>) -> Result<RgbImage> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    decode(&bytes, &path_text(path))
}

/// What helps where a format is known, but not this kind of it.
const CONVERT: &str = "convert it to PNG or JPEG";

fn explain(error: &ImageError) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or("damaged image");
    match error {
        ImageError::Limits(_) => format!("too large to decode ({line})"),
        ImageError::Unsupported(_) => format!("cannot be decoded ({line}): {CONVERT}"),
        _ => format!("cannot be decoded ({line})"),
    }
}

/// What a picture takes is known from its head, before its pixels take memory.
fn check_size(width: u32, height: u32, bytes_per_pixel: u64, len: usize) -> std::result::Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(format!("{width} x {height} pixels; from 1 to {MAX_PIXELS} in all can be read"));
    }
    let bytes = pixels * bytes_per_pixel;
    if bytes > MAX_BYTES {
        let (needed, most) = (bytes >> 20, MAX_BYTES >> 20);
        return Err(format!(
            "{width} x {height} pixels of {bytes_per_pixel} bytes take {needed} MiB to decode, more than {most}: scale it down"
        ));
    }
    if pixels > SMALL_PIXELS && pixels > PIXELS_PER_BYTE * len as u64 {
        return Err(format!("claims {width} x {height} pixels in a file of {len} bytes: it is damaged, or made to fill the memory"));
    }
    Ok(())
}
