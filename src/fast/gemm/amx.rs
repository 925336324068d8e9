//! Products of bf16 pairs in Intel's tile registers (AMX): 16 × 16 sums of 16 pairs each in one instruction.
//!
//! Rust has no stable intrinsics for them, so this is assembly. Eight tiles: four of sums, two of rows of A, two of columns of B.

use std::arch::asm;
use std::mem::MaybeUninit;

use super::Element;

/// Rows and columns of the block of sums.
pub(super) const SIDE: usize = 32;
/// Pairs of one product; a row of a tile.
const PAIRS: usize = 16;

/// The shapes of the tiles, as the processor reads them.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// Tiles 0 to 3: sums; 4 and 5: A; 6 and 7: B. `rows` of A are split over two tiles of up to 16.
    fn new(rows: usize) -> Self {
        let (upper, lower) = (rows.min(16) as u8, rows.saturating_sub(16).max(1) as u8);
        let mut shapes = Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.row_bytes[..8].fill(64);
        shapes.rows[..8].copy_from_slice(&[upper, upper, lower, lower, upper, lower, 16, 16]);
        shapes
    }
}

/// tile[r, j] = Σᵢ a[r · row + i] · b[i, j] for r < rows, j < 32, i < inner, over pairs of bf16.
///
/// # Safety
/// The processor has the tiles and the system lets this process use them ([`Isa`](crate::Isa)), 1 ≤ rows ≤ 32,
/// inner ≥ 1; a[r · row + i] and b[i · 32 + j] can be read, 32 · 32 sums can be written.
pub(super) unsafe fn bf16(rows: usize, inner: usize, a: *const Element, row: usize, b: *const Element, tile: *mut f32) {
    let (shapes, whole, rest) = (Shapes::new(rows), inner / PAIRS, inner % PAIRS);
    // a rest is padded with zeros; if there is none, nothing is read from here
    let (mut last_a, mut last_b) = (MaybeUninit::<[Element; SIDE * PAIRS]>::uninit(), MaybeUninit::<[Element; PAIRS * SIDE]>::uninit());
    // SAFETY: inside the factors as the caller promises. Of A's second tile one row is read at least: with up to 16 rows that
    // is the first row again, whose sums are written behind those that the caller reads.
    unsafe {
        let (last_a, last_b) = (last_a.as_mut_ptr().cast::<Element>(), last_b.as_mut_ptr().cast::<Element>());
        if rest > 0 {
            last_a.write_bytes(0, SIDE * PAIRS);
            last_b.write_bytes(0, PAIRS * SIDE);
            for r in 0..rows {
                last_a.add(r * PAIRS).copy_from_nonoverlapping(a.add(r * row + whole * PAIRS), rest);
            }
            last_b.copy_from_nonoverlapping(b.add(whole * PAIRS * SIDE), rest * SIDE);
        }
        let second = if rows > 16 { 16 } else { 0 };
        asm!(
            "ldtilecfg [{shapes}]",
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "test {whole}, {whole}",
            "jz 3f",
            "2:",
            "tileloadd tmm6, [{b} + {b_stride}]",
            "tileloadd tmm7, [{b} + {b_stride} + 64]",
            "tileloadd tmm4, [{a} + {a_stride}]",
            "tileloadd tmm5, [{low} + {a_stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 64", "add {low}, 64", "add {b}, 2048",
            "dec {whole}",
            "jnz 2b",
            "3:",
            "test {rest}, {rest}",
            "jz 4f",
            "mov {a_stride}, 64",
            "tileloadd tmm6, [{last_b} + {b_stride}]",
            "tileloadd tmm7, [{last_b} + {b_stride} + 64]",
            "tileloadd tmm4, [{last_a} + {a_stride}]",
            "tileloadd tmm5, [{last_low} + {a_stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "4:",
            "tilestored [{tile} + {b_stride}], tmm0",
            "tilestored [{tile} + {b_stride} + 64], tmm1",
            "tilestored [{tile} + {b_stride} + 2048], tmm2",
            "tilestored [{tile} + {b_stride} + 2112], tmm3",
            "tilerelease",
            shapes = in(reg) &shapes,
            whole = inout(reg) whole => _,
            rest = in(reg) rest,
            a = inout(reg) a => _,
            low = inout(reg) a.add(second * row) => _,
            b = inout(reg) b => _,
            a_stride = inout(reg) row * 4 => _,
            b_stride = in(reg) 4 * SIDE,
            last_a = in(reg) last_a,
            last_low = in(reg) last_a.add(second * PAIRS),
            last_b = in(reg) last_b,
            tile = in(reg) tile,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
