//! The weak view as nodes of an ONNX graph: 8-bit pictures in, the tower's pixels out.

use candle_core::{Device, Tensor};

use super::graph::{Attribute, FLOAT, Graph};
use crate::augment::{CropRule, Preprocess, Resample, ResizeTo};
use crate::error::{Error, Result};

/// Adds the weak view: pictures `[n, height, width, 3]` u8, all of one size → pixels `[n, 3, side, side]` f32.
///
/// The resize is ONNX's with antialiasing (operator set 18), on 8-bit values, with the filter of Keys' cubic at a = −1/2 that is
/// renormalized at the edges, as Pillow's is; the two directions are two nodes, in Pillow's order. The crop is cut where this CLIP's own
/// library cuts it.
///
/// # Errors
/// [`Error::Usage`] for a filter or a crop that these operators do not know.
pub(super) fn weak_view(graph: &mut Graph, weak: &Preprocess, pictures: &str) -> Result<String> {
    let Preprocess { resize, resample, crop, crop_rule, rescale, mean, std } = weak;
    let crop = *crop;
    let planes = graph.node("Transpose", &[pictures], &[("perm", Attribute::Ints(&[0, 3, 1, 2]))]);
    let size = graph.node("Shape", &[&planes], &[("start", Attribute::Int(2)), ("end", Attribute::Int(4))]); // [height, width]
    let target = match *resize {
        ResizeTo::ShortestEdge(edge) if edge >= crop => {
            // size · edge / shorter, without its fraction
            let shorter = graph.node("ReduceMin", &[&size], &[("keepdims", Attribute::Int(1))]);
            let edge = graph.ints(&[i64::from(edge)]);
            let product = graph.node("Mul", &[&size, &edge], &[]);
            graph.node("Div", &[&product, &shorter], &[])
        }
        ResizeTo::Exact { width, height } if width.min(height) >= crop => graph.ints(&[i64::from(height), i64::from(width)]),
        _ => return Err(unknown(&format!("{resize:?} with a crop of {crop} pixels, which may have to be padded"))),
    };
    let mode = match resample {
        Resample::Bicubic => "cubic",
        Resample::Bilinear => "linear",
        Resample::Lanczos => return Err(unknown("a resize by Lanczos' filter")),
    };
    let front = graph.node("Shape", &[&planes], &[("start", Attribute::Int(0)), ("end", Attribute::Int(2))]); // [n, 3]
    let middle = between(graph, &size, &target);
    let attributes = [
        ("mode", Attribute::Text(mode)),
        ("antialias", Attribute::Int(1)),
        ("coordinate_transformation_mode", Attribute::Text("half_pixel")),
        ("cubic_coeff_a", Attribute::Float(-0.5)),
        ("exclude_outside", Attribute::Int(1)),
    ];
    let mut resized = planes;
    for size in [&middle, &target] {
        let sizes = graph.node("Concat", &[&front, size], &[("axis", Attribute::Int(0))]);
        resized = graph.node("Resize", &[&resized, "", "", &sizes], &attributes);
    }

    let crop = graph.ints(&[i64::from(crop)]);
    let two = graph.ints(&[2]);
    let mut margin = graph.node("Sub", &[&target, &crop], &[]);
    if *crop_rule == CropRule::Torchvision {
        // half to even: one more row where half the margin, without its fraction, is odd
        let half = graph.node("Div", &[&margin, &two], &[]);
        let quarter = graph.node("Div", &[&half, &two], &[]);
        let even = graph.node("Mul", &[&quarter, &two], &[]);
        let odd = graph.node("Sub", &[&half, &even], &[]);
        margin = graph.node("Add", &[&margin, &odd], &[]);
    }
    let start = graph.node("Div", &[&margin, &two], &[]);
    let end = graph.node("Add", &[&start, &crop], &[]);
    let axes = graph.ints(&[2, 3]);
    let cut = graph.node("Slice", &[&resized, &start, &end, &axes], &[]);

    let values = graph.node("Cast", &[&cut], &[("to", Attribute::Int(FLOAT))]);
    let factor = graph.number(*rescale)?;
    let values = graph.node("Mul", &[&values, &factor], &[]);
    let mut channels = |name: &str, values: &[f32; 3]| -> Result<String> {
        // three numbers are not a matrix: they keep f32 also among halves
        let name = graph.tensor(name, &Tensor::new(values, &Device::Cpu)?)?;
        let shape = graph.ints(&[3, 1, 1]);
        Ok(graph.node("Reshape", &[&name, &shape], &[]))
    };
    let (mean, std) = (channels("mean", mean)?, channels("std", std)?);
    let centered = graph.node("Sub", &[&values, &mean], &[]);
    Ok(graph.node("Div", &[&centered, &std], &[]))
}

/// `[height, width]` between the two directions of a resize, of which the vertical one is first where `rows_first` of the crate's own
/// resize says so: if height removed > 2 · width removed, and > 0.
fn between(graph: &mut Graph, size: &str, target: &str) -> String {
    let removed = graph.node("Sub", &[size, target], &[]);
    let (rows, columns) = (graph.slice(&removed, 0, 0, 1), graph.slice(&removed, 0, 1, 2));
    let (zero, two) = (graph.ints(&[0]), graph.ints(&[2]));
    let twice = graph.node("Mul", &[&columns, &two], &[]);
    let least = graph.node("Max", &[&twice, &zero], &[]);
    let rows_first = graph.node("Greater", &[&rows, &least], &[]);
    let mut of = |height: &str, width: &str| {
        let (height, width) = (graph.slice(height, 0, 0, 1), graph.slice(width, 0, 1, 2));
        graph.node("Concat", &[&height, &width], &[("axis", Attribute::Int(0))])
    };
    let (low, narrow) = (of(target, size), of(size, target));
    graph.node("Where", &[&rows_first, &low, &narrow], &[])
}

fn unknown(what: &str) -> Error {
    Error::Usage(format!("this CLIP's pictures are prepared with {what}, which the ONNX form does not hold: export without --pictures"))
}
