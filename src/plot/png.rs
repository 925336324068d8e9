//! From SVG to pixels, with a font that comes along: no system font is needed for Latin, Greek, Cyrillic, Arabic, Hebrew.

use std::sync::{Arc, OnceLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb::Database};

use crate::error::{Error, Result};

/// The figure as a PNG file, `scale` times its nominal size; texts in DejaVu Sans, whose widths the layout reckons with.
pub(super) fn render(svg: &str, scale: f32) -> Result<Vec<u8>> {
    let failed = |what: String| Error::Usage(format!("this figure cannot be drawn as PNG ({what}): save it as .svg"));
    let options = Options { fontdb: fonts(svg), font_family: "DejaVu Sans".into(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(|e| failed(e.to_string()))?;
    let size = tree.size().to_int_size().scale_by(scale).ok_or_else(|| failed("it has no size".into()))?;
    let mut pixels = Pixmap::new(size.width(), size.height()).ok_or_else(|| failed("it is too large".into()))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|e| failed(e.to_string()))
}

/// DejaVu; with the system's fonts behind it only for scripts that DejaVu lacks (Chinese, Japanese, Korean, Thai, those of
/// India …), so that everything else looks alike on every machine. If the system has none either, boxes stand for them.
fn fonts(svg: &str) -> Arc<Database> {
    static FONTS: OnceLock<Arc<Database>> = OnceLock::new();
    static WITH_SYSTEM: OnceLock<Arc<Database>> = OnceLock::new();
    let own = || {
        let mut fonts = Database::new();
        fonts.load_font_data(dejavu::sans::regular().to_vec());
        fonts.load_font_data(dejavu::sans::bold().to_vec());
        fonts.set_sans_serif_family("DejaVu Sans");
        fonts
    };
    let with_system = || {
        let mut fonts = own();
        fonts.load_system_fonts();
        fonts.set_sans_serif_family("DejaVu Sans");
        Arc::new(fonts)
    };
    if svg.chars().any(beyond) { WITH_SYSTEM.get_or_init(with_system) } else { FONTS.get_or_init(|| Arc::new(own())) }.clone()
}

/// Whether a letter belongs to a script that DejaVu Sans lacks.
fn beyond(c: char) -> bool {
    matches!(u32::from(c), 0x700..=0x109f | 0x1100..=0x1dff | 0x2e80..=0xfaff | 0xfe30..=0xffef | 0x1f300..)
}
