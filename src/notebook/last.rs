//! How a cell's last expression is shown.

use std::any::Any;
use std::fmt::Debug;

use candle_core::Tensor;
use image::{DynamicImage, RgbImage};

use super::display::{Html, Markdown, Show, print};

/// Gives every value the method that evcxr calls on a cell's last expression; without it a cell would be compiled twice.
///
/// Types with an `evcxr_display` of their own (figures, tables, reports) use theirs. A tensor shows its values, a picture
/// itself, anything else its `Debug`.
pub trait ShowLast: Debug {
    /// Prints the value in the form in which evcxr takes it.
    fn evcxr_display(&self);
}

impl<T: Debug + 'static> ShowLast for T {
    fn evcxr_display(&self) {
        let value: &dyn Any = self;
        let known = [
            value.downcast_ref::<Tensor>().map(Show::media),
            value.downcast_ref::<RgbImage>().map(Show::media),
            value.downcast_ref::<DynamicImage>().map(Show::media),
            value.downcast_ref::<Html>().map(Show::media),
            value.downcast_ref::<Markdown>().map(Show::media),
        ];
        let media = known.into_iter().flatten().next();
        print(media.unwrap_or_else(|| vec![("text/plain", format!("{self:?}"))]));
    }
}
