//! Spectrograms as pictures.

use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage, imageops};

use crate::error::{Error, Result};
use crate::files::write_bytes_atomic;

/// What a picture shows below its loudest point, in dB.
const SHOWN_DB: f32 = 80.0;
/// The loudest point is taken to be at least this loud, so that near silence looks like it, in dB.
const QUIETEST_TOP_DB: f32 = -40.0;
/// Small spectrograms are enlarged by whole factors, up to about this many pixels in the longer direction.
const COMFORTABLE_PIXELS: usize = 1024;
/// Between the panels of a grid, in pixels.
const GAP_PIXELS: u32 = 8;
const BACKGROUND: Rgb<u8> = Rgb([32, 32, 36]);

/// Matplotlib's "magma" (van der Walt and Smith 2015, CC0) at ten even steps: perceptually uniform, dark is
/// quiet.
const MAGMA: [[f32; 3]; 10] = [
    [0.0, 0.0, 4.0],
    [24.0, 15.0, 61.0],
    [68.0, 15.0, 118.0],
    [114.0, 31.0, 129.0],
    [158.0, 47.0, 127.0],
    [205.0, 64.0, 113.0],
    [241.0, 96.0, 93.0],
    [253.0, 150.0, 104.0],
    [254.0, 202.0, 141.0],
    [252.0, 253.0, 191.0],
];

/// A picture of `db` (`[height, width]`, row 0 the lowest frequency, which is drawn at the bottom): the
/// loudest 80 dB in magma.
///
/// # Errors
/// [`Error::Shape`] if `db` is not `height * width` values, or there are none.
pub fn spectrogram(db: &[f32], height: usize, width: usize) -> Result<RgbImage> {
    if db.is_empty() || db.len() != height * width {
        return Err(Error::shape("spectrogram", format!("{height} x {width} values"), db.len().to_string()));
    }
    let top = db.iter().copied().filter(|db| db.is_finite()).fold(QUIETEST_TOP_DB, f32::max);
    let factor = (COMFORTABLE_PIXELS / height.max(width)).max(1);
    let pixel = |x: u32, y: u32| {
        let row = height - 1 - y as usize / factor;
        colour(1.0 + (db[row * width + x as usize / factor] - top) / SHOWN_DB)
    };
    Ok(RgbImage::from_fn((width * factor) as u32, (height * factor) as u32, pixel))
}

/// Pictures side by side, `columns` in a row, in order.
pub fn grid(pictures: &[RgbImage], columns: usize) -> RgbImage {
    let columns = columns.clamp(1, pictures.len().max(1)) as u32;
    let rows = (pictures.len() as u32).div_ceil(columns);
    let cell_width = pictures.iter().map(RgbImage::width).max().unwrap_or(0) + GAP_PIXELS;
    let cell_height = pictures.iter().map(RgbImage::height).max().unwrap_or(0) + GAP_PIXELS;
    let (width, height) = (columns * cell_width + GAP_PIXELS, rows * cell_height + GAP_PIXELS);
    let mut sheet = RgbImage::from_pixel(width, height, BACKGROUND);
    for (index, picture) in (0..).zip(pictures) {
        let (x, y) = (index % columns * cell_width + GAP_PIXELS, index / columns * cell_height + GAP_PIXELS);
        imageops::replace(&mut sheet, picture, x.into(), y.into());
    }
    sheet
}

/// Writes a PNG, atomically.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] if the picture is too large for PNG.
pub fn save(path: &Path, picture: &RgbImage) -> Result<()> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(picture, picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(|error| Error::format(path, format!("cannot be made a PNG: {error}")))?;
    write_bytes_atomic(path, &bytes)
}

/// The colour of `level`, 0 (quiet) to 1 (loud); a NaN is drawn as quiet.
fn colour(level: f32) -> Rgb<u8> {
    let last = MAGMA.len() - 1;
    let position = level.clamp(0.0, 1.0) * last as f32;
    let below = (position as usize).min(last - 1);
    let share = position - below as f32;
    let mix = |channel: usize| {
        let (low, high) = (MAGMA[below][channel], MAGMA[below + 1][channel]);
        (low + (high - low) * share).round() as u8
    };
    Rgb([mix(0), mix(1), mix(2)])
}
